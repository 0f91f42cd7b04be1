// All workers: whether they are there, what they do and have, and why a data set of theirs cannot be used.

import { useState } from "preact/hooks";
import { part, post, shortName } from "../api/client";
import { useLive, useSession } from "../api/hooks";
import type { Dataset, Worker } from "../api/types";
import { Action } from "../parts/dialog";
import { bytes, count, time, whole } from "../parts/format";
import { Ago, Command, Empty, JobLink, Loading, Meter, Name, Scroll, State, useNow } from "../parts/parts";
import { StateFilter } from "../parts/state_filter";
import { choose, type Place } from "../router";

const PAGE = 50;
const STATES = ["ACTIVE", "DRAINING", "QUARANTINED", "LOST", "LEFT"];

function DatasetLine({ dataset }: { dataset: Dataset }) {
  const examples = [dataset.train_examples, dataset.test_examples].filter((n): n is number => typeof n === "number" && n > 0);
  const problem = typeof dataset.problem === "string" ? dataset.problem : "";
  return (
    <li>
      <bdi class="name">{dataset.name}</bdi>{" "}
      {problem !== "" ? (
        <span class="bad wrap">
          <span aria-hidden="true">✕ </span>
          {problem}
        </span>
      ) : (
        <span class="muted">{examples.length > 0 ? `${examples.map((n) => count(n)).join(" + ")} examples` : ""}</span>
      )}
    </li>
  );
}

function Buttons({ worker }: { worker: Worker }) {
  const id = shortName(worker.name);
  if (worker.state === "ACTIVE") {
    return (
      <Action label="Drain" title={`Drain ${id}?`} run={() => post(`workers/${part(worker.name)}/drain`)}>
        <p>It ends the task that it does and is given no other, until it is undrained. It stays connected.</p>
      </Action>
    );
  }
  if (worker.state === "DRAINING" || worker.state === "QUARANTINED") {
    return (
      <Action label="Undrain" title={`Give ${id} tasks again?`} run={() => post(`workers/${part(worker.name)}/undrain`)}>
        <p>{worker.state === "QUARANTINED" ? `It is in quarantine: ${worker.quarantine_reason}. This ends it.` : "It is given tasks again."}</p>
      </Action>
    );
  }
  return null;
}

function Row({ worker, open, onOpen, may }: { worker: Worker; open: boolean; onOpen: () => void; may: boolean }) {
  const now = useNow();
  const problems = worker.datasets.filter((dataset) => typeof dataset.problem === "string" && dataset.problem !== "").length;
  const days = (time(worker.certificate_expire_time) - now) / 86_400_000;
  return (
    <>
      <tr>
        <th scope="row" class="cell-name">
          <Name>{shortName(worker.name)}</Name>
        </th>
        <td class="cell-state">
          <State of={worker.state} />
          {worker.quarantine_reason !== "" && (
            <bdi class="muted block wrap">
              until <Ago at={worker.quarantine_end_time} />: {worker.quarantine_reason}
            </bdi>
          )}
        </td>
        <td>{worker.job === "" ? <span class="muted">idle</span> : <JobLink name={worker.job} />}</td>
        <td class="number">
          {whole(worker.tasks_completed)}
          {worker.tasks_failed > 0 && <span class="bad block">{whole(worker.tasks_failed)} failed</span>}
        </td>
        <td class="number">{worker.threads}</td>
        <td class="number">
          {worker.resident_bytes > 0 ? bytes(worker.resident_bytes) : "–"}
          {worker.memory_budget_bytes > 0 && (
            <>
              <span class="muted block">of {bytes(worker.memory_budget_bytes)}</span>
              <Meter share={worker.resident_bytes / worker.memory_budget_bytes} label="Memory in use, of what it may take" />
            </>
          )}
        </td>
        <td>
          <button type="button" class="plain" aria-expanded={open} onClick={onOpen} disabled={worker.datasets.length === 0}>
            {worker.datasets.length} {problems > 0 && <span class="bad">✕ {problems} unusable</span>} {worker.datasets.length > 0 && (open ? "▾" : "▸")}
          </button>
        </td>
        <td class="nowrap">
          <Ago at={worker.last_seen_time} />
          {days < 3 && <span class={`block ${days < 0 ? "bad" : "warn"}`}>certificate ends {days < 0 ? "in the past" : "soon"}</span>}
        </td>
        <td>{worker.version}</td>
        {may && (
          <td>
            <Buttons worker={worker} />
          </td>
        )}
      </tr>
      {open && (
        <tr>
          <td colSpan={may ? 10 : 9}>
            <ul class="datasets">
              {worker.datasets.slice(0, 200).map((dataset) => (
                <DatasetLine key={dataset.name} dataset={dataset} />
              ))}
            </ul>
          </td>
        </tr>
      )}
    </>
  );
}

export function WorkersPage({ place }: { place: Place }) {
  const { workers } = useLive();
  const session = useSession();
  const [open, setOpen] = useState("");
  const state = place.query.get("state") ?? "";
  const contains = place.query.get("contains") ?? "";
  const from = Number(place.query.get("from") ?? 0) || 0;
  const all = [...workers.values()].sort((a, b) => a.name.localeCompare(b.name));
  const matching = all.filter((worker) => (state === "" || worker.state === state) && worker.name.toLowerCase().includes(contains.toLowerCase()));
  const shown = matching.slice(from, from + PAGE);
  const may = session?.may.drain === true;
  return (
    <>
      <div class="page-head">
        <h1>Workers</h1>
        <p class="muted">{workers.known && STATES.map((one) => [one, all.filter((worker) => worker.state === one).length] as const).filter(([, number]) => number > 0).map(([one, number]) => `${number} ${one.toLowerCase()}`).join(" · ")}</p>
      </div>
      <div class="filters" role="search">
        <label>
          <span>Name contains</span>
          <input type="search" value={contains} onInput={(event) => choose({ contains: event.currentTarget.value, from: "" })} />
        </label>
        <StateFilter states={STATES} state={state} onChoose={(one) => choose({ state: one, from: "" })} />
      </div>
      {!workers.known ? (
        <Loading />
      ) : shown.length === 0 ? (
        <Empty title={all.length === 0 ? "No worker has connected yet." : "No worker is like that."}>
          <p>
            Start one where the data is: <Command>espalier-worker --coordinator HOST:7070 --data-root FOLDER</Command>
          </p>
        </Empty>
      ) : (
        <Scroll label="Workers">
          <table class="workers">
            <thead>
              <tr>
                <th>Name</th>
                <th>State</th>
                <th>Works on</th>
                <th class="number">Tasks</th>
                <th class="number">Threads</th>
                <th class="number">Memory</th>
                <th>Data sets</th>
                <th>Last heard</th>
                <th>Version</th>
                {may && (
                  <th>
                    <span class="sr-only">Actions</span>
                  </th>
                )}
              </tr>
            </thead>
            <tbody>
              {shown.map((worker) => (
                <Row key={worker.name} worker={worker} may={may} open={open === worker.name} onOpen={() => setOpen(open === worker.name ? "" : worker.name)} />
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
      {matching.length > PAGE && (
        <nav class="pages" aria-label="Pages of the list">
          <button type="button" disabled={from === 0} onClick={() => choose({ from: from <= PAGE ? "" : String(from - PAGE) })}>
            Earlier page
          </button>
          <span class="muted">
            {from + 1}–{Math.min(matching.length, from + PAGE)} of {whole(matching.length)}
          </span>
          <button type="button" disabled={from + PAGE >= matching.length} onClick={() => choose({ from: String(from + PAGE) })}>
            Next page
          </button>
        </nav>
      )}
    </>
  );
}
