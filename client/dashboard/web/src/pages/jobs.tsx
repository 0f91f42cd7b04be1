// All jobs: filtered, sorted and paged by the coordinator; those that are seen change while one looks.

import { useEffect, useState } from "preact/hooks";
import { ApiError, post, shortName } from "../api/client";
import { useGet, useLive, useSession } from "../api/hooks";
import type { Job } from "../api/types";
import { Dialog } from "../parts/dialog";
import { digits, metricOf, percent, real } from "../parts/format";
import { Ago, Command, Empty, JobLink, Loading, Meter, Problem, Scroll, State } from "../parts/parts";
import { StateFilter } from "../parts/state_filter";
import { choose, navigate, type Place } from "../router";

const STATES = ["RUNNING", "PENDING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"];
const PAGE = 50;

function pathOf(query: URLSearchParams): string {
  const asked = new URLSearchParams({ page_size: String(PAGE) });
  for (const state of query.getAll("state")) asked.append("state", state);
  for (const key of ["method", "contains", "order", "page_token"]) {
    const value = query.get(key);
    if (value !== null && value !== "") asked.set(key, value);
  }
  return `jobs?${asked}`;
}

function reasonOf(job: Job): string {
  return job.conditions[0]?.message ?? job.failure_message;
}

function Submit({ onClose }: { onClose: () => void }) {
  const [file, setFile] = useState("");
  const [id, setId] = useState("");
  const [checked, setChecked] = useState<Job>();
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState(false);
  const send = async (only: boolean): Promise<void> => {
    setBusy(true);
    setError(undefined);
    try {
      const job = await post<Job>("jobs", { file, job_id: id, validate_only: only });
      if (only) setChecked(job);
      else navigate(`/jobs/${encodeURIComponent(shortName(job.name))}`);
    } catch (problem) {
      setChecked(undefined);
      setError(problem instanceof ApiError ? problem : new ApiError(0, "UNKNOWN", "", String(problem)));
    } finally {
      setBusy(false);
    }
  };
  const change = (text: string): void => {
    setFile(text);
    setChecked(undefined);
  };
  return (
    <Dialog title="Submit a job" open onClose={onClose}>
      <label class="field">
        Job file
        <input type="file" accept=".yaml,.yml,.json" onChange={(event) => void event.currentTarget.files?.[0]?.text().then(change)} />
      </label>
      <label class="field">
        Its text, which may be changed here
        <textarea rows={14} spellcheck={false} value={file} onInput={(event) => change(event.currentTarget.value)} />
      </label>
      <label class="field">
        Id of the job (empty: the coordinator makes one)
        <input type="text" value={id} onInput={(event) => setId(event.currentTarget.value)} />
      </label>
      {error !== undefined && <Problem error={error} what="The job" />}
      {checked !== undefined && (
        <p class="good" role="status">
          <span aria-hidden="true">✓ </span>The job is valid: method {checked.spec?.method?.name}, {checked.total_rounds || checked.spec?.federation?.rounds} rounds.
        </p>
      )}
      <div class="dialog-buttons">
        <button type="button" onClick={onClose}>
          Close
        </button>
        <button type="button" disabled={busy || file === ""} onClick={() => void send(true)}>
          Check
        </button>
        <button type="button" class="primary" disabled={busy || checked === undefined} title={checked === undefined ? "Check it first" : ""} onClick={() => void send(false)}>
          Submit
        </button>
      </div>
    </Dialog>
  );
}

function Row({ job, owned, chosen, onChoose }: { job: Job; owned: boolean; chosen: boolean; onChoose: () => void }) {
  const id = shortName(job.name);
  const metric = metricOf(job.spec?.evaluation?.main_metric);
  const done = job.round / Math.max(1, job.total_rounds);
  return (
    <tr>
      <td>
        <input type="checkbox" checked={chosen} onChange={onChoose} aria-label={`Compare ${id}`} />
      </td>
      <th scope="row" class="cell-name">
        <JobLink name={job.name} />
        {(job.spec?.display_name ?? "") !== "" && <bdi class="muted ellipsis block">{job.spec?.display_name}</bdi>}
      </th>
      <td class="cell-state">
        <State of={job.state} />
        {reasonOf(job) !== "" && (
          <bdi class="muted ellipsis block" title={reasonOf(job)}>
            {reasonOf(job)}
          </bdi>
        )}
      </td>
      <td>{job.spec?.method?.name}</td>
      <td class="number">
        {job.round} / {job.total_rounds}
        <Meter share={done} label={`${percent(done, 0)} of the rounds are done`} />
      </td>
      <td class="number">
        {job.best_round === 0 ? "–" : digits(real(job.best_metric))}
        <span class="muted block">{job.best_round === 0 ? "" : metric.label}</span>
      </td>
      <td class="number">{job.dense_parameters > 0 ? percent(job.stored_parameters / job.dense_parameters) : "–"}</td>
      <td class="nowrap">
        <Ago at={job.create_time} />
      </td>
      {owned && <td class="ellipsis">{job.owner ?? ""}</td>}
    </tr>
  );
}

export function JobsPage({ place }: { place: Place }) {
  const { query } = place;
  const { jobs: known } = useLive();
  const session = useSession();
  const asked = useGet<{ jobs: Job[]; next_page_token: string }>(pathOf(query));
  const [tokens, setTokens] = useState<string[]>([]);
  const [text, setText] = useState(query.get("contains") ?? "");
  const [chosen, setChosen] = useState<string[]>([]);
  // New jobs are on the first page.
  useEffect(() => {
    if (query.get("page_token") === null && asked.value !== undefined) asked.again();
  }, [known.size]);
  useEffect(() => {
    const timer = window.setTimeout(() => text !== (query.get("contains") ?? "") && filter({ contains: text }), 300);
    return () => window.clearTimeout(timer);
  }, [text]);
  const filter = (changes: Record<string, string>): void => {
    setTokens([]);
    choose({ ...changes, page_token: "" });
  };
  const state = query.get("state") ?? "";
  const jobs = asked.value?.jobs.map((job) => known.get(job.name) ?? job);
  const owned = jobs?.some((job) => (job.owner ?? "") !== "") ?? false;
  const token = query.get("page_token") ?? "";
  return (
    <>
      <div class="page-head">
        <h1>Jobs</h1>
        <div class="page-actions">
          {chosen.length > 0 && (
            <button type="button" onClick={() => navigate(`/compare?jobs=${chosen.map(encodeURIComponent).join(",")}`)}>
              Compare {chosen.length}
            </button>
          )}
          {session?.may.submit === true && (
            <button type="button" class="primary" onClick={() => choose({ submit: "1" })}>
              Submit a job
            </button>
          )}
        </div>
      </div>
      <div class="filters" role="search">
        <label>
          <span>Name contains</span>
          <input type="search" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <StateFilter states={STATES} state={state} onChoose={(one) => filter({ state: one })} />
        <label>
          <span>Method</span>
          <input type="text" value={query.get("method") ?? ""} onChange={(event) => filter({ method: event.currentTarget.value })} />
        </label>
        <label>
          <span>Order</span>
          <select value={query.get("order") ?? ""} onChange={(event) => filter({ order: event.currentTarget.value })}>
            <option value="">newest first</option>
            <option value="OLDEST">oldest first</option>
            <option value="NAME">by name</option>
          </select>
        </label>
      </div>
      {asked.error !== undefined && <Problem error={asked.error} what="The list of jobs" />}
      {jobs === undefined ? (
        asked.error === undefined && <Loading />
      ) : jobs.length === 0 ? (
        <Empty title={query.size > 0 ? "No job is like that." : "There is no job yet."}>
          <p>
            Submit one: <Command>espalier job submit FILE</Command>. Make a file for your data: <Command>espalier init</Command>.
          </p>
        </Empty>
      ) : (
        <Scroll label="Jobs">
          <table class="jobs">
            <thead>
              <tr>
                <th>
                  <span class="sr-only">Compare</span>
                </th>
                <th>Name</th>
                <th>State</th>
                <th>Method</th>
                <th class="number">Round</th>
                <th class="number">Best</th>
                <th class="number">Stored</th>
                <th>Submitted</th>
                {owned && <th>Owner</th>}
              </tr>
            </thead>
            <tbody>
              {jobs.map((job) => {
                const id = shortName(job.name);
                return <Row key={job.name} job={job} owned={owned} chosen={chosen.includes(id)} onChoose={() => setChosen((former) => (former.includes(id) ? former.filter((other) => other !== id) : [...former, id]))} />;
              })}
            </tbody>
          </table>
        </Scroll>
      )}
      <nav class="pages" aria-label="Pages of the list">
        <button
          type="button"
          disabled={token === ""}
          onClick={() => {
            choose({ page_token: tokens.at(-1) ?? "" });
            setTokens(tokens.slice(0, -1));
          }}
        >
          Earlier page
        </button>
        <button
          type="button"
          disabled={(asked.value?.next_page_token ?? "") === ""}
          onClick={() => {
            setTokens([...tokens, token]);
            choose({ page_token: asked.value?.next_page_token ?? "" });
          }}
        >
          Next page
        </button>
      </nav>
      {query.get("submit") === "1" && session?.may.submit === true && <Submit onClose={() => choose({ submit: "" })} />}
    </>
  );
}
