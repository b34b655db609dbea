"""The alerts of a batch as plain objects: in place of the spans that point to them, the texts and lists themselves.

It knows the interface in `wit/filter.wit` and nothing else; it stands in each new project as it is here.
"""

from types import SimpleNamespace


def alerts_of(batch):
    texts = bytes(batch.texts)

    def text(span):
        return texts[span.start : span.start + span.count].decode()

    def part(items, span):
        return items[span.start : span.start + span.count]

    processes = [
        SimpleNamespace(
            pid=process.pid,
            name=text(process.name),
            exe=text(process.exe),
            cmdline=text(process.cmdline),
            cwd=text(process.cwd),
        )
        for process in batch.processes
    ]
    return [
        SimpleNamespace(
            id=alert.id,
            time=alert.time,
            last_time=alert.last_time,
            count=alert.count,
            rule=text(alert.rule),
            priority=alert.priority,
            output=text(alert.output),
            # Pairs of a name and a value as JSON.
            fields=[(text(field.name), text(field.value)) for field in part(batch.fields, alert.fields)],
            tags=[text(tag) for tag in part(batch.tags, alert.tags)],
            source=text(alert.source),
            sensor=text(alert.sensor),
            # The process that did it, then its ancestors, nearest first.
            ancestry=[processes[place] for place in part(batch.ancestry, alert.ancestry)],
            package=alert.package
            and SimpleNamespace(name=text(alert.package.name), folder=text(alert.package.folder)),
            fingerprint=text(alert.fingerprint),
            seen_before=alert.seen_before,
        )
        for alert in batch.alerts
    ]
