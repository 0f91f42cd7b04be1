// One job: how far it is, its curves, its layers, what it was asked for, what happened.

import { useEffect, useMemo, useState } from "preact/hooks";
import { part, post, shortName } from "../api/client";
import { useGet, useLive, useSession } from "../api/hooks";
import { openStream } from "../api/streams";
import type { Checkpoint, Job, JobEvent, Round } from "../api/types";
import { Action } from "../parts/dialog";
import { EventList, KIND_WORDS, kindOf } from "../parts/events";
import { bytes, count, digits, metricOf, percent, real, seconds, span, time, whole } from "../parts/format";
import { JobCurves } from "../parts/job_curves";
import { JobLayers } from "../parts/job_layers";
import { JobSpec } from "../parts/job_spec";
import { Ago, Empty, Fact, Loading, Meter, Panel, Problem, Scroll, State, useNow } from "../parts/parts";
import { choose, Link, type Place } from "../router";

const MOST_POINTS = 500;
const MOST_EVENTS = 100;
// What is kept of a job's events; a job may have many thousands.
const KEPT_EVENTS = 3000;
const TELL_MS = 250;
const ENDED = new Set(["SUCCEEDED", "FAILED", "CANCELLED"]);

/** The rounds that were there, and those that come while one looks. */
function useRounds(id: string, events: JobEvent[]): { rounds: Round[]; total: number; known: boolean } {
  const asked = useGet<{ rounds: Round[]; total_rounds: number }>(`jobs/${part(id)}/rounds?max_points=${MOST_POINTS}`);
  const newest = useMemo(() => events.findLast((event) => event.round_committed?.summary !== undefined)?.round_committed?.summary?.round ?? 0, [events]);
  const drawn = asked.value?.rounds.at(-1)?.round ?? 0;
  // Events of rounds are kept for a while only: then the coordinator chooses among all rounds again.
  useEffect(() => {
    if (asked.value !== undefined && newest > drawn + MOST_POINTS) asked.again();
  }, [newest, drawn]);
  return useMemo(() => {
    const rounds = [...(asked.value?.rounds ?? [])];
    let newest = rounds.at(-1)?.round ?? 0;
    for (const event of events) {
      const summary = event.round_committed?.summary;
      if (asked.value !== undefined && summary !== undefined && summary.round > newest) {
        rounds.push(summary);
        newest = summary.round;
      }
    }
    return { rounds, total: Math.max(asked.value?.total_rounds ?? 0, newest), known: asked.value !== undefined };
  }, [asked.value, events]);
}

/** The newest events of the job, the last one last; told a few times a second. */
function useEvents(id: string): JobEvent[] {
  const [events, setEvents] = useState<JobEvent[]>([]);
  useEffect(() => {
    let waiting: JobEvent[] = [];
    let timer: number | undefined;
    const stream = openStream(`jobs/${part(id)}/events`, {
      on: {
        event: (event: JobEvent) => {
          waiting.push(event);
          if (waiting.length > 2 * KEPT_EVENTS) waiting = waiting.slice(-KEPT_EVENTS);
          timer ??= window.setTimeout(() => {
            const arrived = waiting;
            waiting = [];
            timer = undefined;
            setEvents((former) => [...former, ...arrived].slice(-KEPT_EVENTS));
          }, TELL_MS);
        },
        reset: () => {
          waiting = [];
          setEvents([]);
        },
        gone: () => stream.close(),
        end: () => stream.close(),
      },
      resume: (path, last) => `${path}?after=${last}`,
    });
    return () => {
      stream.close();
      window.clearTimeout(timer);
    };
  }, [id]);
  return events;
}

/** From the pace of the last rounds. */
function timeLeft(job: Job, rounds: Round[]): number {
  const last = rounds.slice(-20).map((round) => seconds(round.duration)).filter((value) => Number.isFinite(value));
  const pace = last.reduce((sum, value) => sum + value, 0) / Math.max(1, last.length);
  return last.length === 0 ? NaN : pace * (job.total_rounds - job.round);
}

function Actions({ job, again }: { job: Job; again: () => void }) {
  const session = useSession();
  if (session?.may.control !== true) return null;
  const id = shortName(job.name);
  const act = (verb: string) => async (): Promise<void> => {
    await post(`jobs/${part(id)}/${verb}`);
    again();
  };
  const state = job.state ?? "";
  return (
    <div class="page-actions">
      {(state === "RUNNING" || state === "PENDING") && (
        <Action label="Pause" title={`Pause ${id}?`} run={act("pause")}>
          <p>It keeps its models and gives its workers back, and goes on where it is once it is resumed.</p>
        </Action>
      )}
      {state === "PAUSED" && (
        <Action label="Resume" title={`Resume ${id}?`} run={act("resume")}>
          <p>It goes on after round {job.round}.</p>
        </Action>
      )}
      {state === "FAILED" && (
        <Action label="Try again" title={`Go on with ${id}?`} run={act("retry")}>
          <p>It goes on after round {job.round}, with what it was submitted with.</p>
        </Action>
      )}
      {!ENDED.has(state) && (
        <Action label="Cancel" title={`Cancel ${id}?`} run={act("cancel")} danger>
          <p>It stops after round {job.round} of {job.total_rounds} and cannot be resumed. Its checkpoints stay.</p>
        </Action>
      )}
    </div>
  );
}

function Facts({ job, rounds }: { job: Job; rounds: Round[] }) {
  const now = useNow();
  const metric = metricOf(job.spec?.evaluation?.main_metric);
  const newest = rounds.at(-1);
  // Of rounds that were left out nothing is known: they count as the ones that are drawn do on average.
  const all = Math.max(1, newest?.round ?? 1) / Math.max(1, rounds.length);
  const sum = (of: (round: Round) => number): number => all * rounds.reduce((total, round) => total + of(round), 0);
  const sent = sum((round) => round.bytes_sent + round.bytes_received);
  const dense = sum((round) => round.dense_bytes);
  const flops = sum((round) => real(round.train_flops));
  const denseFlops = sum((round) => real(round.dense_train_flops));
  const end = time(job.end_time);
  const left = timeLeft(job, rounds);
  return (
    <dl class="facts">
      <Fact label="Round" note={job.state === "RUNNING" && Number.isFinite(left) ? `about ${span(left)} left` : undefined}>
        {whole(job.round)} <span class="muted">of {whole(job.total_rounds)}</span>
        <Meter share={job.round / Math.max(1, job.total_rounds)} label="Rounds that are done" />
      </Fact>
      <Fact label={`Best ${metric.label}`} note={job.best_round > 0 ? `in round ${job.best_round}` : undefined}>
        {job.best_round > 0 ? digits(real(job.best_metric)) : "–"}
      </Fact>
      <Fact label="Density" note={newest !== undefined ? `${count(newest.active_weights)} weights exist` : undefined}>
        {newest === undefined ? "–" : percent(real(newest.density))}
      </Fact>
      <Fact label="Stored" note={`of ${count(job.dense_parameters)} parameters`}>
        {count(job.stored_parameters)}
      </Fact>
      <Fact label="On the wire" note={dense > 0 ? `${percent(sent / dense)} of dense` : undefined}>
        {all > 1 && <span class="muted">about </span>}
        {bytes(sent)}
      </Fact>
      <Fact label="Computed" note={denseFlops > 0 ? "of the dense model's" : undefined}>
        {denseFlops > 0 ? percent(flops / denseFlops) : "–"}
      </Fact>
      <Fact label={Number.isNaN(end) ? "Running for" : "Ran for"}>{job.start_time === undefined ? "–" : span(((Number.isNaN(end) ? now : end) - time(job.start_time)) / 1000)}</Fact>
    </dl>
  );
}

function Checkpoints({ id, job, newest }: { id: string; job: Job; newest: string }) {
  const asked = useGet<{ checkpoints: Checkpoint[] }>(`jobs/${part(id)}/checkpoints`);
  useEffect(() => {
    if (newest !== "" && asked.value !== undefined) asked.again();
  }, [newest]);
  if (asked.error !== undefined) return <Problem error={asked.error} what="The list of checkpoints" />;
  if (asked.value === undefined) return <Loading />;
  if (asked.value.checkpoints.length === 0) return <Empty title="No model has been saved yet." />;
  return (
    <Scroll label="Checkpoints" tall>
      <table>
        <thead>
          <tr>
            <th>Name</th>
            <th class="number">Round</th>
            <th class="number">Size</th>
            <th>Written</th>
            <th>
              <span class="sr-only">Download</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {[...asked.value.checkpoints].sort((a, b) => b.round - a.round).map((checkpoint) => (
            <tr key={checkpoint.name}>
              <th scope="row">
                <Link to={`/jobs/${part(id)}/structure?checkpoint=${part(checkpoint.name)}`}>{shortName(checkpoint.name)}</Link>
                {checkpoint.round === job.best_round && <span class="tag">best</span>}
              </th>
              <td class="number">{checkpoint.round}</td>
              <td class="number">{bytes(checkpoint.size_bytes)}</td>
              <td>
                <Ago at={checkpoint.create_time} />
              </td>
              <td>
                <a href={`/api/v1/checkpoints/${part(checkpoint.name)}/file`} download>
                  Download
                </a>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

function Runs({ job }: { job: Job }) {
  return (
    <Scroll label="Runs">
      <table>
        <thead>
          <tr>
            <th>Run</th>
            <th class="number">Round</th>
            <th class="number">Density</th>
            <th class="number">Last metric</th>
            <th class="number">Best metric</th>
          </tr>
        </thead>
        <tbody>
          {job.runs.map((run) => (
            <tr key={run.name}>
              <th scope="row">{run.name}</th>
              <td class="number">
                {run.round} / {run.rounds}
              </td>
              <td class="number">{percent(real(run.density))}</td>
              <td class="number">{run.last_metric === undefined ? "–" : digits(real(run.last_metric))}</td>
              <td class="number">{run.best_round === 0 ? "–" : digits(real(run.best_metric))}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

function History({ name, events, kind }: { name: string; events: JobEvent[]; kind: string }) {
  const shown = events.filter((event) => kind === "" || kindOf(event) === kind || (kind === "refusals" && (event.update_rejected ?? event.task_reassigned ?? event.quorum_missed) !== undefined));
  const last = shown.slice(-MOST_EVENTS).reverse();
  return (
    <>
      <div class="filters">
        <label>
          <span>Kind</span>
          <select value={kind} onChange={(event) => choose({ kind: event.currentTarget.value })}>
            <option value="">all</option>
            <option value="refusals">refusals, losses and missed quorums</option>
            {Object.entries(KIND_WORDS).map(([word, text]) => (
              <option key={word} value={word}>
                {text}
              </option>
            ))}
          </select>
        </label>
      </div>
      {last.length === 0 ? <p class="muted">{kind === "refusals" ? "Nothing was refused, lost or late." : "Nothing yet."}</p> : <EventList events={last.map((event) => ({ job: name, event }))} />}
      {shown.length > last.length && (
        <p class="muted">
          {whole(shown.length - last.length)} older ones: <code>espalier job watch {shortName(name)}</code>
        </p>
      )}
    </>
  );
}

export function JobPage({ id, place }: { id: string; place: Place }) {
  const asked = useGet<Job>(`jobs/${part(id)}`);
  const { jobs } = useLive();
  const events = useEvents(id);
  const { rounds, total, known } = useRounds(id, events);
  const moved = events.filter((event) => event.state_changed !== undefined).length;
  useEffect(() => {
    if (asked.value !== undefined) asked.again();
  }, [moved]);
  if (asked.value === undefined) return asked.error === undefined ? <Loading /> : <Problem error={asked.error} what={`Job ${id}`} />;
  const now = jobs.get(asked.value.name);
  const newest = rounds.at(-1)?.round ?? 0;
  const fresh: Job = now !== undefined ? { ...asked.value, ...now, runs: asked.value.runs, features: asked.value.features ?? [] } : asked.value;
  const job: Job = { ...fresh, round: Math.max(fresh.round, newest) };
  const refusals = events.filter((event) => event.update_rejected !== undefined || event.task_reassigned !== undefined || event.quorum_missed !== undefined).length;
  return (
    <>
      <div class="page-head">
        <div class="ellipsis">
          <h1 class="ellipsis">
            <bdi title={id}>{id}</bdi> <State of={job.state} />
          </h1>
          <p class="muted ellipsis">
            {(job.spec?.display_name ?? "") !== "" && <bdi>{job.spec?.display_name} · </bdi>}
            method {job.spec?.method?.name} · submitted <Ago at={job.create_time} />
            {(job.owner ?? "") !== "" && <> by {job.owner}</>}
          </p>
        </div>
        <Actions job={job} again={asked.again} />
      </div>
      {job.conditions.map((condition) => (
        <p key={condition.type} class="note warn wrap">
          <span aria-hidden="true">▲ </span>
          {condition.message} <span class="muted">(since <Ago at={condition.since} />)</span>
        </p>
      ))}
      {job.state === "FAILED" && (
        <p class="note bad wrap" role="alert">
          <span aria-hidden="true">✕ </span>
          {job.failure_message} <code>{job.failure_reason}</code>
        </p>
      )}
      {refusals > 0 && place.query.get("kind") !== "refusals" && (
        <p class="note quiet">
          {whole(refusals)} results were refused, tasks lost or deadlines missed: <Link to={`/jobs/${part(id)}?kind=refusals#history`}>which</Link>
        </p>
      )}
      <nav class="tabs" aria-label="More of this job">
        <Link to={`/jobs/${part(id)}/structure`}>The network</Link>
        <Link to={`/jobs/${part(id)}/rounds`}>Rounds and participants</Link>
        <Link to={`/compare?jobs=${part(id)}`}>Compare</Link>
        {job.spec?.model?.recommender !== undefined && <Link to={`/playground?job=${part(id)}`}>Playground</Link>}
      </nav>
      <Facts job={job} rounds={rounds} />
      {!known ? (
        <Loading />
      ) : rounds.length === 0 ? (
        <Empty title="No round is done yet." />
      ) : (
        <>
          {total > rounds.length && (
            <p class="muted">
              {rounds.length} of {whole(total)} rounds are drawn.
            </p>
          )}
          <JobCurves job={job} rounds={rounds} />
        </>
      )}
      <div class="grid">
        {job.runs.length > 0 && (
          <Panel title="Runs" wide>
            <Runs job={job} />
          </Panel>
        )}
        <Panel title="Layers" wide>
          <JobLayers rounds={rounds} />
        </Panel>
        <Panel title="Checkpoints">
          <Checkpoints id={id} job={job} newest={job.latest_checkpoint} />
        </Panel>
        <Panel title="What happened">
          <div id="history" />
          <History name={job.name} events={events} kind={place.query.get("kind") ?? ""} />
        </Panel>
        <Panel title="What was asked for" wide>
          <JobSpec job={job} other={place.query.get("with") ?? ""} />
        </Panel>
      </div>
    </>
  );
}
