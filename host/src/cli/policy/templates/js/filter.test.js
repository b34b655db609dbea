import assert from "node:assert/strict";
import { test } from "node:test";

import { filter } from "./filter.js";

test("only node may make files in memory", () => {
  const alert = (id, rule, place) => ({ id, rule, ancestry: [place] });
  const batch = {
    processes: [{ name: "node" }, { name: "sh" }],
    alerts: [alert(1n, "File in memory", 0), alert(2n, "File in memory", 1), alert(3n, "Read credentials", 0)],
  };
  const actions = filter.evaluate(batch, "{}").map((decision) => decision.action.tag);
  assert.deepEqual(actions, ["suppress", "keep", "keep"]);
});

test("settings are refused", () => {
  filter.validateSettings("{}");
  assert.throws(() => filter.validateSettings('{"x":1}'));
});
