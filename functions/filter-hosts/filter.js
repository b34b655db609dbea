// An allow-list of hosts, each entry with the last day on which it counts.
//
// Suppresses network alerts about a host that is listed, and names the entry. It has no clock: an entry has expired when
// the alert was last seen after its last day (UTC), so an alert that is judged again is judged as it was. It never suppresses
// what also touches credentials or the watcher, and a pattern never covers a lookup, because data can leave in the name.

import { alertsOf } from "./batch.js";

const MAX_HOSTS = 1000;
const NEVER = ["credential", "persistence", "defense_evasion", "privilege_escalation"];
const DAY = 86_400_000_000_000n;

const schema = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  additionalProperties: false,
  required: ["hosts"],
  properties: {
    hosts: {
      type: "array",
      minItems: 1,
      maxItems: MAX_HOSTS,
      items: {
        type: "object",
        additionalProperties: false,
        required: ["host", "until", "because"],
        properties: {
          host: { description: "A host's name or address; *.example.org for all below it.", type: "string" },
          until: { description: "The last day on which the entry counts, in UTC.", type: "string", format: "date" },
          because: { type: "string", minLength: 1, maxLength: 500 },
        },
      },
    },
  },
};

const isText = (value) => typeof value === "string";

function unknownKey(object, known) {
  return Object.keys(object).find((key) => !known.includes(key));
}

// Nanoseconds since the epoch at which the day is over, or nothing if there is no such day.
function endOf(day) {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(day)) return undefined;
  const begin = new Date(`${day}T00:00:00Z`);
  // JavaScript takes 30 February for 1 March.
  if (Number.isNaN(begin.getTime()) || begin.toISOString().slice(0, 10) !== day) return undefined;
  return BigInt(begin.getTime()) * 1_000_000n + DAY;
}

// Lower case, without the dot at the end that means the same name.
function normal(host) {
  return host.toLowerCase().replace(/\.$/, "");
}

function entry(item, place) {
  if (typeof item !== "object" || item === null || Array.isArray(item)) throw `${place} is no object`;
  const strange = unknownKey(item, ["host", "until", "because"]);
  if (strange !== undefined) throw `${place} has the unknown key ${strange}`;
  const { host, until, because } = item;
  if (!isText(host) || !/^(\*\.)?[a-z0-9_:-]+(\.[a-z0-9_-]+)*$/.test(normal(host))) {
    throw `${place}.host: ${JSON.stringify(host)} is no host: give a name, an address or *.NAME, without port or path`;
  }
  const end = isText(until) ? endOf(until) : undefined;
  if (end === undefined) throw `${place}.until: ${JSON.stringify(until)} is no day: give YYYY-MM-DD`;
  if (!isText(because) || because.trim() === "" || because.length > 500) {
    throw `${place}.because: give a reason of 1 to 500 characters`;
  }
  return { host: normal(host), until, because, end };
}

// The entries, or a thrown sentence that names the key.
export function read(settings) {
  let document;
  try {
    document = JSON.parse(settings);
  } catch {
    throw "the settings are not JSON";
  }
  if (typeof document !== "object" || document === null || !Array.isArray(document.hosts)) {
    throw 'the settings have no list "hosts"';
  }
  const strange = unknownKey(document, ["hosts"]);
  if (strange !== undefined) throw `the settings have the unknown key ${strange}`;
  const count = document.hosts.length;
  if (count === 0 || count > MAX_HOSTS) throw `hosts has ${count} entries: give 1 to ${MAX_HOSTS}`;
  return document.hosts.map((item, place) => entry(item, `hosts[${place}]`));
}

function field(alert, name) {
  const found = alert.fields.find(([key]) => key === name);
  if (found === undefined) return undefined;
  try {
    const value = JSON.parse(found[1]);
    return isText(value) && value !== "" ? normal(value) : undefined;
  } catch {
    return undefined;
  }
}

function covers(entry, host, lookup) {
  if (!entry.host.startsWith("*.")) return entry.host === host;
  return !lookup && host.endsWith(entry.host.slice(1)) && host.length > entry.host.length - 1;
}

// The entry that answers for every host that the alert names, or nothing.
function allowed(alert, entries) {
  const lookup = field(alert, "dns.name");
  const named = field(alert, "fd.sip.name");
  // An address counts only where no name is known: many names share one.
  const hosts = [lookup, named].filter((host) => host !== undefined);
  const address = field(alert, "fd.sip");
  if (hosts.length === 0 && address !== undefined) hosts.push(address);
  if (hosts.length === 0) return undefined;
  const last = alert.lastTime > alert.time ? alert.lastTime : alert.time;
  return entries.find((e) => last < e.end && hosts.every((host) => covers(e, host, host === lookup)));
}

export function decide(alert, entries) {
  const network = alert.tags.includes("network") && !alert.tags.some((tag) => NEVER.some((word) => tag.includes(word)));
  const found = network ? allowed(alert, entries) : undefined;
  if (found === undefined) return { id: alert.id, action: { tag: "keep" }, pin: false, reason: "", tags: [] };
  const reason = `${found.host} is allowed until ${found.until}: ${found.because}`;
  // Cut by code units: at most three bytes each.
  return { id: alert.id, action: { tag: "suppress" }, pin: false, reason: reason.slice(0, 340), tags: ["allowed-host"] };
}

export const filter = {
  evaluate(batch, settings) {
    const entries = read(settings);
    return alertsOf(batch).map((alert) => decide(alert, entries));
  },

  describe() {
    return {
      name: "hosts",
      version: "0.1.0",
      author: "Lanner",
      summary: "suppresses network alerts about hosts that are allowed until a day",
      settingsSchema: JSON.stringify(schema),
    };
  },

  // What is thrown is the error of the result.
  validateSettings(settings) {
    read(settings);
  },
};
