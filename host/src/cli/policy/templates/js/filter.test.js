import assert from "node:assert/strict";
import { test } from "node:test";

import { filter } from "./filter.js";

test("only node may make files in memory", () => {
  // Texts and lists are given by their place, as the host gives them.
  let texts = "";
  const text = (of) => {
    texts += of;
    return { start: texts.length - of.length, count: of.length };
  };
  const none = { start: 0, count: 0 };
  const process = (name) => ({ pid: 1, name: text(name), exe: none, cmdline: none, cwd: none });
  const alert = (id, rule, place) => ({
    ...{ id, rule: text(rule), ancestry: { start: place, count: 1 }, fields: none, tags: none },
    ...{ output: none, source: none, sensor: none, fingerprint: none },
  });
  const batch = {
    processes: [process("node"), process("sh")],
    alerts: [alert(1n, "File in memory", 0), alert(2n, "File in memory", 1), alert(3n, "Read credentials", 0)],
    ...{ ancestry: new Uint32Array([0, 1]), fields: [], tags: [] },
    texts: new TextEncoder().encode(texts),
  };
  const actions = filter.evaluate(batch, "{}").map((decision) => decision.action.tag);
  assert.deepEqual(actions, ["suppress", "keep", "keep"]);
});

test("settings are refused", () => {
  filter.validateSettings("{}");
  assert.throws(() => filter.validateSettings('{"x":1}'));
});
