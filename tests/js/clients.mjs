// OpenAI's own JavaScript client against the API named by OPENAI_BASE_URL and OPENAI_API_KEY.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const model = "smollm2";
const messages = [{ role: "user", content: "Name three colours of the rainbow." }];
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: {
      type: "object",
      properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};

const checks = {
  async "a whole answer"() {
    const answer = await client.chat.completions.create({ model, messages, max_tokens: 12 });
    assert.ok(answer.choices[0].message.content.length > 0);
    assert.ok(answer.usage.completion_tokens <= 12);
  },
  async "a streamed answer with its usage"() {
    const stream = await client.chat.completions.create({
      model,
      messages,
      max_tokens: 12,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    assert.equal(chunks[0].choices[0].delta.role, "assistant");
    assert.ok(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("").length > 0);
    assert.ok(chunks.at(-1).usage.total_tokens > 0);
  },
  async "the stream helper puts the answer together"() {
    const runner = client.chat.completions.stream({ model, messages, max_tokens: 12 });
    const answer = await runner.finalChatCompletion();
    assert.equal(answer.choices[0].message.role, "assistant");
    assert.ok(answer.choices[0].message.content.length > 0);
  },
  async "a required tool is called"() {
    const answer = await client.chat.completions.create({
      model,
      messages: [{ role: "user", content: "What's the weather in Rome?" }],
      tools: [weather],
      tool_choice: "required",
      max_tokens: 80,
    });
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(call.function.name, "get_weather");
    assert.ok(["Paris", "Rome"].includes(JSON.parse(call.function.arguments).city));
  },
  async "models"() {
    const page = await client.models.list();
    assert.ok(page.data.some((found) => found.id === model));
    assert.equal((await client.models.retrieve(model)).id, model);
  },
  async "a conversation and a turn in it"() {
    const conversation = await client.conversations.create({ metadata: { topic: "rainbows" } });
    const answer = await client.chat.completions.create({
      model,
      messages,
      max_tokens: 8,
      conversation_id: conversation.id,
    });
    assert.equal(answer.conversation_id, conversation.id);
    assert.equal((await client.conversations.retrieve(conversation.id)).metadata.topic, "rainbows");
    assert.equal((await client.conversations.delete(conversation.id)).deleted, true);
  },
  async "errors are the client's own classes"() {
    const stranger = new OpenAI({ apiKey: "tp-wrong", maxRetries: 0 });
    await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
    await assert.rejects(client.chat.completions.create({ model: "nonesuch", messages }), OpenAI.NotFoundError);
    await assert.rejects(client.chat.completions.create({ model, messages: [] }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, "messages");
      return true;
    });
  },
  async "aborting a stream"() {
    const stream = await client.chat.completions.create({ model, messages, max_tokens: 400, stream: true });
    for await (const chunk of stream) {
      assert.ok(chunk.id);
      stream.controller.abort();
      break;
    }
    assert.equal(stream.controller.signal.aborted, true);
  },
};

let passed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    passed += 1;
  } catch (error) {
    console.error(`FAILED: ${name}\n`, error);
    process.exitCode = 1;
  }
}
console.log(JSON.stringify({ passed }));
