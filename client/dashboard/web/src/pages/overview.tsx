// The first page: whether all is well, what runs, who works, what happened last.

import { useEffect, useState } from "preact/hooks";
import { get, part, shortName } from "../api/client";
import { useEvery, useGet, useLive } from "../api/hooks";
import { live } from "../api/live";
import type { Cluster, Job, Round, Worker } from "../api/types";
import { Spark } from "../charts/spark";
import { digits, metricOf, percent, real } from "../parts/format";
import { EventList } from "../parts/events";
import { healthOf } from "../parts/health";
import { Ago, Command, Empty, JobLink, Loading, Meter, Panel, State, useNow } from "../parts/parts";
import { Link } from "../router";

const MOST_RUNNING = 8;
const NEWEST_EVENTS = 12;
const WORKER_STATES = ["ACTIVE", "DRAINING", "QUARANTINED", "LOST", "LEFT"];

/** The main metric of a job's rounds, or its loss, and what comes while one looks. */
function useCurve(job: Job): { label: string; values: number[] } {
  const [rounds, setRounds] = useState<Round[]>([]);
  useEffect(() => {
    let gone = false;
    get<{ rounds: Round[] }>(`jobs/${part(job.name)}/rounds?max_points=100`).then(
      (answer) => !gone && setRounds(answer.rounds),
      () => undefined,
    );
    const stop = live.hear(({ job: name, event }) => {
      const summary = event.round_committed?.summary;
      if (name === job.name && summary !== undefined) setRounds((former) => (former.at(-1)?.round ?? 0) < summary.round ? [...former, summary].slice(-200) : former);
    });
    return () => {
      gone = true;
      stop();
    };
  }, [job.name]);
  const metrics = rounds.map((round) => real(round.main_metric));
  if (metrics.some((value) => Number.isFinite(value))) return { label: metricOf(job.spec?.evaluation?.main_metric).label, values: metrics };
  return { label: "training loss", values: rounds.map((round) => real(round.train_loss)) };
}

function Running({ job }: { job: Job }) {
  const { label, values } = useCurve(job);
  const newest = values.filter((value) => Number.isFinite(value)).at(-1) ?? NaN;
  const title = job.spec?.display_name ?? "";
  return (
    <li class="running">
      <div class="running-head">
        <JobLink name={job.name} />
        <State of={job.state} />
      </div>
      {title !== "" && <bdi class="muted ellipsis">{title}</bdi>}
      <Spark values={values} label={`${label} of ${shortName(job.name)}, newest ${digits(newest)}`} />
      <div class="running-foot">
        <span>
          {label} <strong>{digits(newest)}</strong>
        </span>
        <span class="number">
          round {job.round} of {job.total_rounds}
        </span>
      </div>
      <Meter share={job.round / Math.max(1, job.total_rounds)} label={`${shortName(job.name)}: ${percent(job.round / Math.max(1, job.total_rounds), 0)} of its rounds are done`} />
      {job.conditions[0] !== undefined && <p class="waits wrap">
          <span aria-hidden="true">▲ </span>
          {job.conditions[0].message}
        </p>}
    </li>
  );
}

function Workers({ workers }: { workers: Worker[] }) {
  const busy = workers.filter((worker) => worker.state === "ACTIVE" && worker.task !== "").length;
  if (workers.length === 0) {
    return (
      <Empty title="No worker has connected yet.">
        <p>
          Start one where the data is: <Command>espalier-worker --coordinator HOST:7070 --data-root FOLDER</Command>
        </p>
      </Empty>
    );
  }
  return (
    <ul class="tally">
      {WORKER_STATES.map((state) => {
        const number = workers.filter((worker) => worker.state === state).length;
        if (number === 0) return null;
        return (
          <li key={state}>
            <Link to={`/workers?state=${state}`}>
              <State of={state} />
            </Link>
            <span class="number">{number}</span>
          </li>
        );
      })}
      <li class="muted">
        <span>computing at this moment</span>
        <span class="number">{busy}</span>
      </li>
    </ul>
  );
}

export function OverviewPage() {
  const { jobs, workers, events, connection } = useLive();
  const cluster = useGet<Cluster>("cluster");
  const now = useNow();
  useEvery(30_000, cluster.again);
  const all = [...jobs.values()];
  // That a round begins says little once it is done.
  const told = events.filter(({ event }) => event.round_started === undefined);
  const inWork = all.filter((job) => job.state === "RUNNING" || job.state === "PENDING");
  inWork.sort((a, b) => (a.state === b.state ? (b.create_time ?? "").localeCompare(a.create_time ?? "") : a.state === "RUNNING" ? -1 : 1));
  const known = (jobs.known && workers.known) || connection.state === "disconnected";
  const health = healthOf({ jobs: all, workers: [...workers.values()], cluster: cluster.value, connection, now });
  const recent = all.filter((job) => job.end_time !== undefined).sort((a, b) => (b.end_time ?? "").localeCompare(a.end_time ?? ""));
  return (
    <>
      <h1 class="sr-only">Overview</h1>
      <section class={`health ${known ? health.tone : "quiet"}`} aria-label="Health" aria-live="polite">
        <p class="health-sentence">
          <span aria-hidden="true" class="health-sign">
            {!known ? "◌" : health.tone === "good" ? "✓" : health.tone === "warn" ? "▲" : "✕"}
          </span>
          <span class="wrap">{known ? health.sentence : "Asking the coordinator…"}</span>
        </p>
        {known && health.notes.length > 0 && (
          <ul>
            {health.notes.map((note) => (
              <li key={note.text} class="wrap">
                {note.to === undefined ? note.text : <Link to={note.to}>{note.text}</Link>}
              </li>
            ))}
          </ul>
        )}
      </section>
      <div class="grid overview">
        <Panel title="Jobs in work" wide aside={inWork.length > MOST_RUNNING ? <Link to="/jobs?state=RUNNING">all {inWork.length}</Link> : undefined}>
          {!jobs.known ? (
            <Loading />
          ) : inWork.length === 0 ? (
            <Empty title="No job is in work.">
              <p>
                Submit one: <Command>espalier job submit FILE</Command>, or <Link to="/jobs?submit=1">from a file here</Link>.
              </p>
            </Empty>
          ) : (
            <ul class="runnings">
              {inWork.slice(0, MOST_RUNNING).map((job) => (
                <Running key={job.name} job={job} />
              ))}
            </ul>
          )}
        </Panel>
        <Panel title="Workers" aside={<Link to="/workers">all</Link>}>
          {workers.known ? <Workers workers={[...workers.values()]} /> : <Loading />}
        </Panel>
        <Panel title="Ended last" aside={<Link to="/jobs">all jobs</Link>}>
          {recent.length === 0 ? (
            <p class="muted">None has ended yet.</p>
          ) : (
            <ul class="tally">
              {recent.slice(0, 6).map((job) => (
                <li key={job.name}>
                  <span class="ellipsis">
                    <State of={job.state} /> <JobLink name={job.name} />
                  </span>
                  <span class="muted nowrap">
                    <Ago at={job.end_time} />
                  </span>
                </li>
              ))}
            </ul>
          )}
        </Panel>
        <Panel title="What happened last" wide aside={<Link to="/events">all events</Link>}>
          {told.length === 0 ? <p class="muted">Nothing since the coordinator started.</p> : <EventList withJob events={told.slice(-NEWEST_EVENTS).reverse()} />}
        </Panel>
      </div>
    </>
  );
}
