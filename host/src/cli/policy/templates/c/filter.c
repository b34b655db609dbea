/* An alert filter: suppresses one rule where it is ordinary, with a reason, and keeps everything else.
 *
 * It binds decide.c to the world; the names are those that the build makes of wit/ (build/bindings/alert_filter.h).
 */
#include <stdlib.h>
#include <string.h>

#include "alert_filter.h"
#include "batch.h"
#include "decide.h"

void exports_lanner_platform_filter_evaluate(batch_t *batch, alert_filter_string_t *settings,
                                             exports_lanner_platform_filter_list_decision_t *ret)
{
    (void)settings;
    size_t count = batch->alerts.len;
    ret->ptr = malloc(count * sizeof(decision_t));
    ret->len = count;
    if (ret->ptr == NULL)
        abort();
    memset(ret->ptr, 0, count * sizeof(decision_t));
    for (size_t i = 0; i < count; i++) {
        const alert_t *alert = &batch->alerts.ptr[i];
        const process_t *process = process_of(batch, alert, 0);
        text name = process != NULL ? text_of(batch, process->name) : (text){"", 0};
        const char *reason = decide(text_of(batch, alert->rule), name);
        decision_t *decision = &ret->ptr[i];
        decision->id = alert->id;
        decision->action.tag = reason[0] != '\0' ? EXPORTS_LANNER_PLATFORM_FILTER_ACTION_SUPPRESS
                                                 : EXPORTS_LANNER_PLATFORM_FILTER_ACTION_KEEP;
        alert_filter_string_set(&decision->reason, reason);
    }
}

void exports_lanner_platform_filter_describe(exports_lanner_platform_filter_description_t *ret)
{
    alert_filter_string_set(&ret->name, "{{name}}");
    alert_filter_string_set(&ret->version, "0.1.0");
    alert_filter_string_set(&ret->author, "you");
    alert_filter_string_set(&ret->summary, "suppresses files in memory that Node.js makes");
    alert_filter_string_set(&ret->settings_schema, "");
}

/* False refuses them, with a sentence for the operator. */
bool exports_lanner_platform_filter_validate_settings(alert_filter_string_t *settings, alert_filter_string_t *err)
{
    if (is((text){(const char *)settings->ptr, settings->len}, "{}"))
        return true;
    alert_filter_string_set(err, "this filter has no settings: give {}");
    return false;
}
