import { expect, test } from "vitest";
import { deviceOf } from "./device";
import { byDay, byModel, lastDays } from "./usage";

const line = (date: string, model: string, input_tokens: number, output_tokens: number, cost: number) => ({ date, model, input_tokens, output_tokens, cost, requests: 1, cached_tokens: 0 });
const lines = [line("2026-11-23", "fast", 10, 5, 0.1), line("2026-11-23", "capable", 20, 5, 0.5), line("2026-11-24", "fast", 1, 1, 0.01), line("2020-01-01", "fast", 9, 9, 9)];

test("every day has its bar, a quiet one too, and days outside are left out", () => {
  const days = lastDays(3, Date.UTC(2026, 10, 24, 12));
  expect(days).toEqual(["2026-11-22", "2026-11-23", "2026-11-24"]);
  expect(byDay(lines, days).map(({ tokens }) => tokens)).toEqual([0, 40, 2]);
});

test("models are summed, the most used first", () => {
  expect(byModel(lines.slice(0, 3)).map(({ model, requests, tokens }) => [model, requests, tokens])).toEqual([
    ["capable", 1, 25],
    ["fast", 2, 17],
  ]);
});

test("a device is called by its browser and system", () => {
  expect(deviceOf("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36")).toBe("Chrome, Linux");
  expect(deviceOf("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1")).toBe("Safari, iOS");
  expect(deviceOf("curl/8.0")).toBeNull();
  expect(deviceOf(null)).toBeNull();
});
