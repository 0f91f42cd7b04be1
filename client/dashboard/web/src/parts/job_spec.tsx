// What a job was asked for: its file with defaults filled in, or what differs from another job's.

import { useMemo } from "preact/hooks";
import { part, shortName } from "../api/client";
import { useGet, useLive } from "../api/hooks";
import type { Job, MethodInfo } from "../api/types";
import { choose } from "../router";
import { DiffTable } from "./diff_table";
import { Problem } from "./parts";
import { differences, flatten, isUnset } from "./spec";

const PARAMETER = "method.parameters.";

/** Fields whose value is what it would be without being named. */
function useDefaults(job: Job): (field: string, value: string) => boolean {
  const method = job.spec?.method?.name ?? "";
  const described = useGet<MethodInfo>(method === "" ? "" : `methods/${part(method)}`);
  return useMemo(() => {
    const known = new Map((described.value?.parameters ?? []).map((parameter) => [parameter.name, String(parameter.default_value)]));
    return (field, value) => isUnset(value) || (field.startsWith(PARAMETER) && known.get(field.slice(PARAMETER.length)) === value);
  }, [described.value]);
}

export function JobSpec({ job, other }: { job: Job; other: string }) {
  const { jobs } = useLive();
  const isDefault = useDefaults(job);
  const second = useGet<Job>(other === "" ? "" : `jobs/${part(other)}`);
  const flat = useMemo(() => flatten(job.spec), [job.spec]);
  const different = useMemo(() => (second.value === undefined ? [] : differences([flat, flatten(second.value.spec)])), [flat, second.value]);
  const names = [...jobs.values()].map((one) => shortName(one.name)).filter((name) => name !== shortName(job.name)).slice(0, 1000);
  return (
    <>
      <div class="filters">
        <label>
          <span>Compare with</span>
          <input type="text" list="other-jobs" placeholder="another job" value={other} onChange={(event) => choose({ with: event.currentTarget.value })} />
        </label>
        <datalist id="other-jobs">
          {names.map((name) => (
            <option key={name} value={name} />
          ))}
        </datalist>
        {other !== "" && (
          <button type="button" onClick={() => choose({ with: "" })}>
            Show all of it
          </button>
        )}
      </div>
      {other !== "" && second.error !== undefined && <Problem error={second.error} what={`Job ${other}`} />}
      {other !== "" && second.value !== undefined ? (
        <DiffTable names={[shortName(job.name), other]} different={different} />
      ) : (
        <>
          <p class="muted">Pale lines are defaults. As a file: the output of `espalier job get {shortName(job.name)} --spec`.</p>
          <ul class="spec">
            {[...flat].map(([field, value]) => {
              const pale = isDefault(field, value);
              return (
                <li key={field} class={pale ? "pale" : ""}>
                  <code>{field}</code>
                  <span class="wrap">
                    {value === "" ? "–" : value}
                    {pale && <span class="sr-only"> (default)</span>}
                  </span>
                </li>
              );
            })}
          </ul>
        </>
      )}
    </>
  );
}
