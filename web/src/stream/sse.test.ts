import { expect, test } from "vitest";
import { createSseParser } from "./sse";

const STREAM = ': ping\n\nid: 1\ndata: {"a":1}\n\nid: 2\r\ndata: one\r\ndata:two\r\n\r\ndata: [DONE]\n\n';
const EVENTS = [
  { id: "1", data: '{"a":1}' },
  { id: "2", data: "one\ntwo" },
  { id: "2", data: "[DONE]" },
];

test("a whole stream gives its events, without the heartbeats", () => {
  expect(createSseParser().push(STREAM)).toEqual(EVENTS);
});

test("a stream cut at any two places gives the same events", () => {
  for (let first = 0; first <= STREAM.length; first++) {
    for (let second = first; second <= STREAM.length; second++) {
      const parser = createSseParser();
      const pieces = [STREAM.slice(0, first), STREAM.slice(first, second), STREAM.slice(second)];
      expect(pieces.flatMap((piece) => parser.push(piece))).toEqual(EVENTS);
    }
  }
});

test("an id alone says where the stream is", () => {
  expect(createSseParser().push("id: 7-0\n\n: ping\n\ndata: x\n\n")).toEqual([
    { id: "7-0", data: "" },
    { id: "7-0", data: "x" },
  ]);
});

test("an event without its blank line is not given yet", () => {
  const parser = createSseParser();
  expect(parser.push("data: half")).toEqual([]);
  expect(parser.push("\n")).toEqual([]);
  expect(parser.push("\n")).toEqual([{ id: null, data: "half" }]);
});

test("a byte order mark at the start is not part of the first field", () => {
  expect(createSseParser().push("\uFEFFdata: x\n\n")).toEqual([{ id: null, data: "x" }]);
});
