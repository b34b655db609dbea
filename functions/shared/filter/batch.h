/* A batch as it is read: the texts that its spans point to. Nothing is copied.
 *
 * It knows the names that the build makes of wit/ (build/bindings/alert_filter.h) and nothing else; it stands in each new
 * project as it is here.
 */
#ifndef BATCH_H
#define BATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "alert_filter.h"
#include "decide.h"

typedef exports_lanner_platform_filter_alert_t alert_t;
typedef exports_lanner_platform_filter_batch_t batch_t;
typedef exports_lanner_platform_filter_decision_t decision_t;
typedef exports_lanner_platform_filter_process_t process_t;
typedef exports_lanner_platform_filter_span_t span_t;

/* Whether a span lies within a list of so many items. */
static inline bool within(span_t span, size_t items)
{
    return span.start <= items && span.count <= items - span.start;
}

static inline text text_of(const batch_t *batch, span_t span)
{
    if (!within(span, batch->texts.len))
        return (text){"", 0};
    return (text){(const char *)batch->texts.ptr + span.start, span.count};
}

/* The process that did it is the first, its ancestors follow; NULL where there is none. */
static inline const process_t *process_of(const batch_t *batch, const alert_t *alert, uint32_t place)
{
    if (!within(alert->ancestry, batch->ancestry.len) || place >= alert->ancestry.count)
        return NULL;
    uint32_t process = batch->ancestry.ptr[alert->ancestry.start + place];
    return process < batch->processes.len ? &batch->processes.ptr[process] : NULL;
}

#endif
