// The alerts of a batch as plain objects: in place of the spans that point to them, the texts and lists themselves.
//
// It knows the interface in `wit/filter.wit` and nothing else; it stands in each new project as it is here.

const utf8 = new TextDecoder();

export function alertsOf(batch) {
  // Alerts share many texts: each is read once.
  const read = new Map();
  const text = ({ start, count }) => {
    const place = start * 2 ** 32 + count;
    let found = read.get(place);
    if (found === undefined) {
      found = utf8.decode(batch.texts.subarray(start, start + count));
      read.set(place, found);
    }
    return found;
  };
  const part = (list, { start, count }) => Array.from(list.slice(start, start + count));
  const processes = batch.processes.map((process) => ({
    pid: process.pid,
    name: text(process.name),
    exe: text(process.exe),
    cmdline: text(process.cmdline),
    cwd: text(process.cwd),
  }));
  return batch.alerts.map((alert) => ({
    ...alert,
    rule: text(alert.rule),
    output: text(alert.output),
    source: text(alert.source),
    sensor: text(alert.sensor),
    fingerprint: text(alert.fingerprint),
    // Pairs of a name and a value as JSON.
    fields: part(batch.fields, alert.fields).map((field) => [text(field.name), text(field.value)]),
    tags: part(batch.tags, alert.tags).map(text),
    // The process that did it, then its ancestors, nearest first.
    ancestry: part(batch.ancestry, alert.ancestry).map((place) => processes[place]),
    package: alert.package && { name: text(alert.package.name), folder: text(alert.package.folder) },
  }));
}
