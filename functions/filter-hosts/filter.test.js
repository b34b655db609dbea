// The logic without WebAssembly: `node --test`.
import assert from "node:assert/strict";
import { test } from "node:test";

import { decide, filter, read } from "./filter.js";

const settings = JSON.stringify({
  hosts: [
    { host: "Downloads.Example.", until: "2026-02-28", because: "esbuild fetches its binary" },
    { host: "*.cdn.example", until: "2026-12-31", because: "our mirror" },
    { host: "192.0.2.7", until: "2026-12-31", because: "the build cache" },
  ],
});
const entries = read(settings);
const noon = (day) => BigInt(Date.parse(`${day}T12:00:00Z`)) * 1_000_000n;

function alert(fields, { tags = ["lanner", "network"], day = "2026-02-28", last = day } = {}) {
  const pairs = Object.entries(fields).map(([name, value]) => [name, JSON.stringify(value)]);
  return { id: 3n, time: noon(day), lastTime: noon(last), tags, fields: pairs };
}

const action = (...given) => decide(alert(...given), entries).action.tag;

test("a host that is listed is allowed, and the reason names the entry", () => {
  const decision = decide(alert({ "fd.sip.name": "downloads.example" }), entries);
  assert.equal(decision.action.tag, "suppress");
  assert.equal(decision.id, 3n);
  assert.equal(decision.reason, "downloads.example is allowed until 2026-02-28: esbuild fetches its binary");
  assert.equal(action({ "fd.sip": "192.0.2.7" }), "suppress");
  assert.equal(action({ "dns.name": "downloads.example." }), "suppress");
});

test("an entry ends with its last day, for the last time that the alert was seen", () => {
  assert.equal(action({ "fd.sip.name": "downloads.example" }, { day: "2026-03-01" }), "keep");
  assert.equal(action({ "fd.sip.name": "downloads.example" }, { last: "2026-03-01" }), "keep");
});

test("a pattern covers what is below it, and never a lookup", () => {
  assert.equal(action({ "fd.sip.name": "a.b.cdn.example" }), "suppress");
  assert.equal(action({ "fd.sip.name": "cdn.example" }), "keep");
  assert.equal(action({ "fd.sip.name": "evilcdn.example" }), "keep");
  assert.equal(action({ "dns.name": "c2VjcmV0.cdn.example" }), "keep");
});

test("every host of an alert must be allowed, by its name if it has one", () => {
  assert.equal(action({ "fd.sip.name": "evil.example", "dns.name": "downloads.example" }), "keep");
  assert.equal(action({ "fd.sip.name": "evil.example", "fd.sip": "192.0.2.7" }), "keep");
});

test("other alerts are kept", () => {
  assert.equal(action({ "fd.name": "downloads.example" }), "keep");
  assert.equal(action({ "fd.sip.name": "downloads.example" }, { tags: ["filesystem"] }), "keep");
  assert.equal(action({ "fd.sip.name": "downloads.example" }, { tags: ["network", "mitre_credential_access"] }), "keep");
});

test("settings that cannot be used are refused by name", () => {
  const refused = (value) => {
    try {
      read(isString(value) ? value : JSON.stringify(value));
    } catch (sentence) {
      return sentence;
    }
    return assert.fail("it was taken");
  };
  const isString = (value) => typeof value === "string";
  const one = (change) => refused({ hosts: [{ host: "a.example", until: "2026-01-01", because: "x", ...change }] });
  assert.equal(refused("no"), "the settings are not JSON");
  assert.equal(refused({}), 'the settings have no list "hosts"');
  assert.equal(refused("null"), 'the settings have no list "hosts"');
  assert.equal(refused({ hosts: [], host: 1 }), "the settings have the unknown key host");
  assert.equal(refused({ hosts: [] }), "hosts has 0 entries: give 1 to 1000");
  assert.equal(refused({ hosts: ["a"] }), "hosts[0] is no object");
  assert.equal(one({ port: 1 }), "hosts[0] has the unknown key port");
  for (const host of ["https://a.example/", "", "a b", "*", "*.", "a..b", 7]) {
    assert.match(one({ host }), /^hosts\[0\]\.host: .* is no host: give a name/, `${host}`);
  }
  for (const until of ["2026-02-30", "tomorrow", "2026-1-1", 2026]) {
    assert.match(one({ until }), /^hosts\[0\]\.until: .* is no day: give YYYY-MM-DD$/, `${until}`);
  }
  assert.equal(one({ because: " " }), "hosts[0].because: give a reason of 1 to 500 characters");
});

test("it describes itself with a schema that is JSON", () => {
  const description = filter.describe();
  assert.equal(description.name, "hosts");
  assert.deepEqual(JSON.parse(description.settingsSchema).required, ["hosts"]);
});
