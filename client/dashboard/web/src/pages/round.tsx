// A round as its participants see it: who computes, who waits, whose result was refused. The round in work moves.

import { useMemo } from "preact/hooks";
import { part, shortName } from "../api/client";
import { useEvery, useGet } from "../api/hooks";
import type { Job, Participant, Progress, Round } from "../api/types";
import { bytes, digits, percent, real, seconds, span, time, whole } from "../parts/format";
import { Ago, Empty, Fact, Loading, Meter, Panel, Problem, Scroll, State, useNow, WorkerLink } from "../parts/parts";
import { choose, Link, navigate, type Place } from "../router";

const PAGE = 50;
const ROUNDS = 200;

interface Bar {
  from: number;
  to: number;
  kind: "waits" | "computes" | "merges";
}

/** Where a participant's time went, in seconds from the start of the round. */
function barsOf(participant: Participant, start: number, end: number): Bar[] {
  const at = (text: string | undefined): number => (time(text) - start) / 1000;
  const assigned = at(participant.assign_time);
  const uploaded = at(participant.upload_time);
  const accepted = at(participant.accept_time);
  const now = (end - start) / 1000;
  if (Number.isNaN(assigned)) return [{ from: 0, to: now, kind: "waits" }];
  const done = !Number.isNaN(accepted) ? accepted : !Number.isNaN(uploaded) ? uploaded : now;
  const computed = Number.isNaN(uploaded) ? done : uploaded;
  const bars: Bar[] = [
    { from: 0, to: assigned, kind: "waits" },
    { from: assigned, to: computed, kind: "computes" },
  ];
  if (done > computed) bars.push({ from: computed, to: done, kind: "merges" });
  return bars;
}

function Gantt({ bars, length, label }: { bars: Bar[]; length: number; label: string }) {
  return (
    <svg class="gantt" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label={label}>
      {bars.map((bar) => (
        <rect key={bar.kind} class={`gantt-${bar.kind}`} x={(100 * bar.from) / length} width={Math.max(0.4, (100 * (bar.to - bar.from)) / length)} y={bar.kind === "waits" ? 4 : 1} height={bar.kind === "waits" ? 2 : 8}>
          <title>{`${bar.kind} from ${span(bar.from)} to ${span(bar.to)}`}</title>
        </rect>
      ))}
    </svg>
  );
}

function Participants({ progress, from }: { progress: Progress; from: number }) {
  const now = useNow();
  const start = time(progress.start_time);
  const end = progress.end_time === undefined ? Math.max(now, start + 100) : time(progress.end_time);
  const length = Math.max(0.001, (end - start) / 1000);
  const shown = progress.participants.slice(from, from + PAGE);
  const phases = new Set(progress.participants.map((participant) => participant.phase));
  return (
    <>
      <p class="legend">
        <span class="gantt-waits">━</span> waits for a worker · <span class="gantt-computes">■</span> is computed · <span class="gantt-merges">■</span> is merged · the whole width is {span(length)}
      </p>
      <Scroll label="Participants">
        <table class="participants">
          <thead>
            <tr>
              <th>Participant</th>
              <th>State</th>
              <th>Worker</th>
              <th class="gantt-head">Time</th>
              <th class="number">Tries</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((participant, place) => {
              const bars = barsOf(participant, start, end);
              const computes = bars.find((bar) => bar.kind === "computes");
              return (
                <tr key={from + place}>
                  <th scope="row">
                    <bdi class="ellipsis">{participant.participant}</bdi> {phases.size > 1 && <span class="muted">{participant.phase}</span>}
                  </th>
                  <td class="cell-state">
                    <State of={participant.state} />
                    {participant.reason !== "" && (
                      <bdi class="muted ellipsis block" title={participant.message}>
                        {participant.reason}: {participant.message}
                      </bdi>
                    )}
                  </td>
                  <td>
                    <WorkerLink name={participant.worker} />
                  </td>
                  <td>
                    <Gantt bars={bars} length={length} label={computes === undefined ? "waits for a worker" : `computed for ${span(computes.to - computes.from)}`} />
                  </td>
                  <td class="number">{participant.attempts}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </Scroll>
      {progress.participants.length > PAGE && (
        <nav class="pages" aria-label="Pages of participants">
          <button type="button" disabled={from === 0} onClick={() => choose({ from: String(Math.max(0, from - PAGE)) })}>
            Earlier
          </button>
          <span class="muted">
            {from + 1}–{Math.min(progress.participants.length, from + PAGE)} of {whole(progress.participants.length + progress.participants_left_out)}
          </span>
          <button type="button" disabled={from + PAGE >= progress.participants.length} onClick={() => choose({ from: String(from + PAGE) })}>
            Next
          </button>
        </nav>
      )}
      {progress.participants_left_out > 0 && <p class="muted">{whole(progress.participants_left_out)} more are left out, of which none is late or was refused.</p>}
    </>
  );
}

function Head({ progress }: { progress: Progress }) {
  const all = progress.arrived + progress.outstanding;
  const late = progress.end_time === undefined && progress.outstanding > 0 && progress.arrived >= progress.needed;
  return (
    <dl class="facts">
      <Fact label="Phase">{progress.end_time === undefined ? progress.phase : "done"}</Fact>
      <Fact label="Results" note={`${progress.needed} needed, ${progress.outstanding} outstanding`}>
        {progress.arrived} <span class="muted">of {all}</span>
        <Meter share={progress.arrived / Math.max(1, all)} label="Results that are there" />
      </Fact>
      <Fact label="Began">
        <Ago at={progress.start_time} />
      </Fact>
      <Fact label="Deadline" note={late ? "the quorum is there; stragglers have until then" : undefined}>
        <Ago at={progress.deadline} />
      </Fact>
    </dl>
  );
}

function Table({ id, rounds, chosen }: { id: string; rounds: Round[]; chosen: string }) {
  return (
    <Scroll label="Rounds" tall>
      <table>
        <thead>
          <tr>
            <th class="number">Round</th>
            <th class="number">Participants</th>
            <th class="number">Loss</th>
            <th class="number">Metric</th>
            <th class="number">Density</th>
            <th class="number">Wire</th>
            <th class="number">Time</th>
          </tr>
        </thead>
        <tbody>
          {rounds.map((round) => (
            <tr key={round.round} class={String(round.round) === chosen ? "chosen" : ""}>
              <th scope="row" class="number">
                <Link to={`/jobs/${part(id)}/rounds/${round.round}`}>{round.round}</Link>
                {round.run !== "" && <span class="muted"> {round.run}</span>}
              </th>
              <td class="number">{whole(round.participants)}</td>
              <td class="number">{digits(real(round.train_loss))}</td>
              <td class="number">{digits(real(round.main_metric))}</td>
              <td class="number">{percent(real(round.density))}</td>
              <td class="number">{bytes(round.bytes_sent + round.bytes_received)}</td>
              <td class="number">{span(seconds(round.duration))}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

export function RoundPage({ id, round, place }: { id: string; round: string; place: Place }) {
  const run = place.query.get("run") ?? "";
  const query = new URLSearchParams();
  if (round !== "") query.set("round", round);
  if (run !== "") query.set("run", run);
  const job = useGet<Job>(`jobs/${part(id)}`);
  const progress = useGet<Progress>(`jobs/${part(id)}/progress?${query}`);
  const history = useGet<{ rounds: Round[] }>(`jobs/${part(id)}/rounds?max_points=${ROUNDS}`);
  const moves = progress.error === undefined && progress.value?.end_time === undefined;
  useEvery(1000, () => moves && progress.again());
  useEvery(3000, () => job.value?.state === "RUNNING" && history.again());
  const rounds = useMemo(() => [...(history.value?.rounds ?? [])].reverse(), [history.value]);
  const ended = job.value?.state !== undefined && job.value.state !== "RUNNING" && job.value.state !== "PENDING";
  const value = progress.value;
  return (
    <>
      <div class="page-head">
        <h1 class="ellipsis">
          {value !== undefined ? `Round ${value.round}` : "Rounds"} of <Link to={`/jobs/${part(id)}`}>{id}</Link>
        </h1>
        {value !== undefined && (
          <div class="page-actions">
            <button type="button" disabled={value.round <= value.oldest_round} onClick={() => navigate(`/jobs/${part(id)}/rounds/${value.round - 1}`)}>
              Round before
            </button>
            <button type="button" disabled={value.round >= value.newest_round} onClick={() => navigate(`/jobs/${part(id)}/rounds/${value.round + 1}`)}>
              Round after
            </button>
            {round !== "" && !ended && (
              <button type="button" onClick={() => navigate(`/jobs/${part(id)}/rounds`)}>
                The one in work
              </button>
            )}
          </div>
        )}
      </div>
      <Panel title="Participants" wide>
        {value !== undefined ? (
          <>
            <Head progress={value} />
            <Participants progress={value} from={Number(place.query.get("from") ?? 0) || 0} />
          </>
        ) : progress.error === undefined ? (
          <Loading />
        ) : progress.error.unknown ? (
          <Problem error={progress.error} what="Who takes part" />
        ) : (
          <Empty title={ended && round === "" ? "The job has ended: no round is in work." : "Nothing is known of this round's participants any more."}>
            <p class="wrap">{progress.error.message}</p>
          </Empty>
        )}
      </Panel>
      <Panel title="Rounds that are done" wide>
        {history.error !== undefined ? <Problem error={history.error} what="The rounds" /> : history.value === undefined ? <Loading /> : rounds.length === 0 ? <Empty title="No round is done yet." /> : (
          <>
            {(rounds[0]?.round ?? 0) > rounds.length && <p class="muted">{whole(rounds.length)} of {whole(rounds[0]?.round ?? 0)}, evenly chosen.</p>}
            <Table id={shortName(id)} rounds={rounds} chosen={round} />
          </>
        )}
      </Panel>
    </>
  );
}
