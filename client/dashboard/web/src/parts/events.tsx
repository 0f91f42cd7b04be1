// What happened, in words.

import { shortName } from "../api/client";
import type { JobEvent, NamedEvent } from "../api/types";
import { bytes, digits, percent, real } from "./format";
import { Ago, JobLink } from "./parts";

export const KINDS = ["state_changed", "round_started", "round_committed", "task_reassigned", "update_rejected", "checkpoint_written", "quorum_missed", "prelude_step"] as const;
export type Kind = (typeof KINDS)[number];

export const KIND_WORDS: Record<Kind, string> = {
  state_changed: "state changed",
  round_started: "round started",
  round_committed: "round committed",
  task_reassigned: "task reassigned",
  update_rejected: "update refused",
  checkpoint_written: "checkpoint written",
  quorum_missed: "quorum missed",
  prelude_step: "step before round 1",
};

export function kindOf(event: JobEvent): Kind | undefined {
  return KINDS.find((kind) => event[kind] !== undefined);
}

function inRun(run: string): string {
  return run === "" ? "" : ` of ${run}`;
}

export function tellEvent(event: JobEvent): string {
  const { state_changed: state, round_started: started, round_committed: committed, task_reassigned: moved } = event;
  const { update_rejected: refused, checkpoint_written: written, quorum_missed: missed, prelude_step: step } = event;
  if (state) return `is ${(state.state ?? "?").toLowerCase()}${state.reason === "" ? "" : ` (${state.reason})`}${state.message === "" ? "" : `: ${state.message}`}`;
  if (started) return `round ${started.round}${inRun(started.run)} begins with ${started.participants} ${started.participants === 1 ? "participant" : "participants"}`;
  if (committed?.summary) {
    const round = committed.summary;
    const loss = round.train_loss === undefined ? "" : `, loss ${digits(real(round.train_loss))}`;
    const metric = round.main_metric === undefined ? "" : `, metric ${digits(real(round.main_metric))}`;
    return `round ${round.round} is done${loss}${metric}, density ${percent(real(round.density))}`;
  }
  if (moved) return `${moved.participant} of round ${moved.round}${inRun(moved.run)} goes to another worker than ${shortName(moved.worker)}: ${moved.message} (${moved.reason})`;
  if (refused) return `a result of ${shortName(refused.worker)} for ${refused.participant} in round ${refused.round}${inRun(refused.run)} was refused: ${refused.message} (${refused.reason})`;
  if (written) return `checkpoint ${shortName(written.name)} is written, ${bytes(written.size_bytes)}`;
  if (missed) return `the deadline of round ${missed.round}${inRun(missed.run)} passed with ${missed.arrived} of ${missed.needed} updates: ${missed.decision}`;
  if (step) return `${step.phase}${step.candidates > 1 ? ` ${step.candidate} of ${step.candidates}` : ""} is done`;
  return "something happened that this page does not know";
}

const SIGNS: Partial<Record<Kind, [string, string]>> = {
  task_reassigned: ["warn", "▲"],
  update_rejected: ["bad", "✕"],
  quorum_missed: ["warn", "▲"],
  round_committed: ["quiet", "✓"],
  checkpoint_written: ["quiet", "▣"],
};

export function EventList({ events, withJob }: { events: NamedEvent[]; withJob?: boolean }) {
  return (
    <ol class="events" tabIndex={0} aria-label="Events">
      {events.map(({ job, event }) => {
        const kind = kindOf(event);
        const [tone, sign] = (event.state_changed?.state === "FAILED" ? ["bad", "✕"] : kind && SIGNS[kind]) ?? ["quiet", "·"];
        return (
          <li key={`${job} ${event.sequence}`} class={tone} id={`${shortName(job)}-${event.sequence}`}>
            <span class="event-sign" aria-hidden="true">
              {sign}
            </span>
            <span class="event-text">
              {withJob === true && <JobLink name={job} />} <bdi>{tellEvent(event)}</bdi>
            </span>
            <span class="event-time">
              <Ago at={event.time} />
            </span>
          </li>
        );
      })}
    </ol>
  );
}
