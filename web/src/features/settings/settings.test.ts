import { QueryClient } from "@tanstack/react-query";
import { expect, test, vi } from "vitest";
import type { Settings } from "../../protocol/account";
import { findModel } from "../chat/models";
import { ME } from "../session/session";
import { settingsChange, settingsOf } from "./settings";

const before: Settings = { object: "settings", language: null, theme: "system", instructions: "", default_model: null, send_with: "enter" };

function aPage() {
  const client = new QueryClient();
  client.setQueryData(ME, { id: "user_1", object: "user", name: "A", is_admin: false, settings: before });
  const change = (wanted: Partial<Settings>) => client.getMutationCache().build(client, client.defaultMutationOptions(settingsChange(client))).execute(wanted);
  return { client, change };
}

test("of two quick changes the last one stays, whichever answer comes first, and nothing flickers back", async () => {
  const { client, change } = aPage();
  const kept = { ...before };
  const answers: (() => void)[] = [];
  vi.stubGlobal("fetch", (_: string, { body }: RequestInit) => {
    Object.assign(kept, JSON.parse(String(body)));
    const answer = JSON.stringify(kept);
    return new Promise((resolve) => answers.push(() => resolve(new Response(answer))));
  });
  const first = change({ theme: "dark" });
  const second = change({ theme: "light", default_model: "m" });
  await vi.waitFor(() => expect(settingsOf(client)?.theme).toBe("light"));
  await vi.waitFor(() => expect(answers).toHaveLength(1)); // the second waits for the first
  answers[0]!();
  await first;
  expect(settingsOf(client)?.theme).toBe("light");
  await vi.waitFor(() => expect(answers).toHaveLength(2));
  answers[1]!();
  await second;
  expect(settingsOf(client)).toEqual({ ...before, theme: "light", default_model: "m" });
});

test("a model for new chats is asked at once", async () => {
  const { client, change } = aPage();
  client.setQueryData(["models"], { object: "list", data: ["first", "wanted"].map((id) => ({ id, object: "model", owned_by: "x" })) });
  vi.stubGlobal("fetch", async () => new Response(JSON.stringify({ ...before, default_model: "wanted" })));
  expect(await findModel(client, "conv_new")).toBe("first");
  await change({ default_model: "wanted" });
  expect(await findModel(client, "conv_new")).toBe("wanted");
});
