/** A person's use, in the sums that the plots show. Pure. */

import type { UsageLine } from "../../protocol/account";

export interface DayUse {
  date: string;
  tokens: number;
  cost: number;
}

export interface ModelUse {
  model: string;
  requests: number;
  tokens: number;
  cost: number;
}

const DAY_MS = 86_400_000;
const dayOf = (time: number): string => new Date(time).toISOString().slice(0, 10);

/** The last so many UTC days, today among them, oldest first. */
export const lastDays = (count: number, now: number): string[] => Array.from({ length: count }, (_, index) => dayOf(now - (count - 1 - index) * DAY_MS));

const tokensOf = ({ input_tokens, output_tokens }: UsageLine): number => input_tokens + output_tokens;

/** Every day stands there, also one without use. */
export function byDay(lines: readonly UsageLine[], days: readonly string[]): DayUse[] {
  const sums = new Map(days.map((date) => [date, { date, tokens: 0, cost: 0 }]));
  for (const line of lines) {
    const sum = sums.get(line.date);
    if (!sum) continue;
    sum.tokens += tokensOf(line);
    sum.cost += line.cost;
  }
  return [...sums.values()];
}

/** The most used first. */
export function byModel(lines: readonly UsageLine[]): ModelUse[] {
  const sums = new Map<string, ModelUse>();
  for (const line of lines) {
    const sum = sums.get(line.model) ?? { model: line.model, requests: 0, tokens: 0, cost: 0 };
    sums.set(line.model, { ...sum, requests: sum.requests + line.requests, tokens: sum.tokens + tokensOf(line), cost: sum.cost + line.cost });
  }
  return [...sums.values()].sort((a, b) => b.tokens - a.tokens);
}
