// The network itself: which weights of a layer exist, in which round, and what came and went.

import { useMemo, useState } from "preact/hooks";
import { part, shortName } from "../api/client";
import { useGet } from "../api/hooks";
import type { Checkpoint, DegreeCount, Job, Topology } from "../api/types";
import { Bars, type Bar } from "../charts/bars";
import { Heat, type Cells } from "../charts/heat";
import { count, digits, percent, real, whole } from "../parts/format";
import { Empty, Fact, Loading, Panel, Problem } from "../parts/parts";
import { choose, Link, type Place } from "../router";

const BINS = 128;
type Look = "mask" | "strength" | "change" | "grown" | "dropped";
const CHANGES = new Set<string>(["change", "grown", "dropped"]);

function barsOf(degrees: DegreeCount[]): Bar[] {
  return degrees.map((one) => ({ from: one.degree, to: Math.max(one.degree, one.last_degree ?? one.degree), count: one.units }));
}

/** How many positions a cell of the grid stands for. */
function positions(topology: Topology, row: number, column: number): number {
  const size = (all: number, cells: number, at: number): number => Math.floor(((at + 1) * all) / cells) - Math.floor((at * all) / cells);
  return Math.max(1, size(topology.rows, topology.grid_rows, row) * size(topology.columns, topology.grid_columns, column));
}

function cellsOf(topology: Topology, look: Look): Cells {
  const { grid_rows: rows, grid_columns: columns } = topology;
  const shares = topology.active.map((active, i) => active / positions(topology, Math.floor(i / columns), i % columns));
  if (look === "mask") {
    const most = Math.max(...shares, 1e-12);
    return { rows, columns, values: shares.map((share) => (share === 0 ? 0 : 0.15 + (0.85 * share) / most)) };
  }
  if (look === "strength") {
    const strengths = topology.strength.map(real);
    const most = Math.max(...strengths, 1e-12);
    return { rows, columns, values: strengths.map((value) => Math.sqrt(value / most)) };
  }
  const changes = topology.grown.map((grown, i) => (look === "dropped" ? 0 : grown) - (look === "grown" ? 0 : (topology.dropped[i] ?? 0)));
  const most = Math.max(...changes.map(Math.abs), 1);
  return { rows, columns, values: changes.map((change) => (change === 0 ? 0 : Math.sign(change) * (0.2 + (0.8 * Math.abs(change)) / most))) };
}

function range(all: number, cells: number, at: number): string {
  const first = Math.floor((at * all) / cells);
  const last = Math.floor(((at + 1) * all) / cells) - 1;
  return last > first ? `${whole(first)}–${whole(last)}` : whole(first);
}

function Mask({ topology, look }: { topology: Topology; look: Look }) {
  const cells = useMemo(() => cellsOf(topology, look), [topology, look]);
  const density = topology.active_total / Math.max(1, topology.rows * topology.columns);
  const label =
    CHANGES.has(look)
      ? `${whole(topology.grown_total)} weights were grown and ${whole(topology.dropped_total)} dropped; green cells gained more than they lost, orange ones lost more.`
      : `${whole(topology.active_total)} of ${count(topology.rows * topology.columns)} weights exist (${percent(density)}); rows are units, columns their inputs. Cells of a strong colour have ${look === "mask" ? "more of them" : "stronger ones"}.`;
  const describe = (row: number, column: number): string => {
    const at = row * topology.grid_columns + column;
    const place = `rows ${range(topology.rows, topology.grid_rows, row)}, columns ${range(topology.columns, topology.grid_columns, column)}`;
    const exist = `${whole(topology.active[at] ?? 0)} of ${whole(positions(topology, row, column))} weights`;
    const change = topology.grown.length === 0 ? "" : `, ${whole(topology.grown[at] ?? 0)} grown, ${whole(topology.dropped[at] ?? 0)} dropped`;
    return `${place}: ${exist}, sum of sizes ${digits(real(topology.strength[at]))}${change}`;
  };
  return <Heat cells={cells} label={label} describe={describe} />;
}

function Inputs({ topology, job }: { topology: Topology; job: Job }) {
  const strengths = topology.column_strength.map(real);
  const [channels = 0, height = 0, width = 0] = topology.input_shape;
  const most = Math.max(...strengths, 1e-12);
  const isImage = height > 1 && width > 1 && channels * height * width === strengths.length;
  const side = Math.sqrt(strengths.length);
  const square = !isImage && Number.isInteger(side) && /digits|mnist|fashion|cifar|emnist/i.test(JSON.stringify(job.spec?.data?.dataset ?? ""));
  if (isImage || square) {
    const rows = isImage ? height : side;
    const columns = isImage ? width : side;
    const values = Array.from({ length: rows * columns }, (_, i) => {
      let sum = 0;
      for (let channel = 0; channel < (isImage ? channels : 1); channel += 1) sum += strengths[channel * rows * columns + i] ?? 0;
      return sum;
    });
    const top = Math.max(...values, 1e-12);
    return (
      <Heat
        square
        cells={{ rows, columns, values: values.map((value) => value / top) }}
        label="How strongly the network looks at each pixel: the sum of the sizes of the weights that leave it."
        describe={(row, column) => `pixel ${row}, ${column}: ${digits(values[row * columns + column] ?? 0)}`}
      />
    );
  }
  const names = new Map((job.features ?? []).map((feature) => [feature.index, feature.name]));
  const strongest = strengths.map((value, index) => ({ value, index })).sort((a, b) => b.value - a.value).slice(0, 20);
  const without = strengths.filter((value) => value === 0).length;
  return (
    <>
      <ol class="features">
        {strongest.map(({ value, index }) => (
          <li key={index}>
            <bdi class="ellipsis">{names.get(index) || `input ${index}`}</bdi>
            <progress class="meter" max={1} value={value / most} aria-label={`Strength of input ${index}`} />
            <span class="number">{digits(value)}</span>
          </li>
        ))}
      </ol>
      <p class="muted">{without > 0 ? `${whole(without)} of ${whole(strengths.length)} inputs have no weight left: the network does not look at them.` : `All ${whole(strengths.length)} inputs have weights.`}</p>
    </>
  );
}

export function StructurePage({ id, place }: { id: string; place: Place }) {
  const job = useGet<Job>(`jobs/${part(id)}`);
  const list = useGet<{ checkpoints: Checkpoint[] }>(`jobs/${part(id)}/checkpoints`);
  const checkpoints = useMemo(() => [...(list.value?.checkpoints ?? [])].sort((a, b) => a.round - b.round), [list.value]);
  const named = place.query.get("checkpoint");
  const at = named === null ? checkpoints.length - 1 : checkpoints.findIndex((one) => shortName(one.name) === named);
  const [sliding, setSliding] = useState<number>();
  const chosen = checkpoints[Math.max(0, at)];
  const since = place.query.get("since") ?? "";
  const tensor = place.query.get("tensor") ?? "";
  const query = new URLSearchParams({ checkpoint: chosen === undefined ? "" : shortName(chosen.name), tensor, bins: String(BINS) });
  if (since !== "") query.set("compare_to", since);
  const asked = useGet<Topology>(chosen === undefined ? "" : `topology?${query}`);
  const [last, setLast] = useState<Topology>();
  if (asked.value !== undefined && asked.value !== last) setLast(asked.value);
  const topology = asked.value ?? last;
  const wanted = place.query.get("look");
  const look: Look = wanted === "strength" || (wanted !== null && CHANGES.has(wanted) && topology !== undefined && topology.grown.length > 0) ? (wanted as Look) : since !== "" && wanted === null && topology !== undefined && topology.grown.length > 0 ? "change" : "mask";
  const head = (
    <div class="page-head">
      <h1 class="ellipsis">
        The network of <Link to={`/jobs/${part(id)}`}>{id}</Link>
      </h1>
    </div>
  );
  if (list.error !== undefined) return <Problem error={list.error} what="The list of checkpoints" />;
  if (list.value === undefined || job.value === undefined) return job.error === undefined ? <Loading /> : <Problem error={job.error} what={`Job ${id}`} />;
  if (chosen === undefined) {
    return (
      <>
        {head}
        <Empty title="No model of this job has been saved yet.">
          <p>
            The network is shown from checkpoints. <code>checkpoint.every_rounds</code> in the job file says how often they are written.
          </p>
        </Empty>
      </>
    );
  }
  const shown = sliding ?? Math.max(0, at);
  const first = topology !== undefined && topology.column_strength.length > 0;
  return (
    <>
      {head}
      <div class="filters structure">
        <label class="slider">
          <span>
            After round {checkpoints[shown]?.round} <span class="muted">({shown + 1} of {checkpoints.length} checkpoints)</span>
          </span>
          <input
            type="range"
            min={0}
            max={checkpoints.length - 1}
            value={shown}
            disabled={checkpoints.length < 2}
            aria-valuetext={`round ${checkpoints[shown]?.round}`}
            onInput={(event) => setSliding(Number(event.currentTarget.value))}
            onChange={(event) => {
              setSliding(undefined);
              choose({ checkpoint: shortName(checkpoints[Number(event.currentTarget.value)]?.name ?? "") });
            }}
          />
        </label>
        <label>
          <span>Tensor</span>
          <select value={topology?.tensor ?? tensor} onChange={(event) => choose({ tensor: event.currentTarget.value })}>
            {(topology?.tensors ?? []).map((one) => (
              <option key={one.name} value={one.name}>
                {one.name} ({one.sparse ? percent(one.active / Math.max(1, one.rows * one.columns)) : "dense"})
              </option>
            ))}
          </select>
        </label>
        <label>
          <span>Changes since</span>
          <select value={since} onChange={(event) => choose({ since: event.currentTarget.value, look: "" })}>
            <option value="">no other round</option>
            {checkpoints
              .filter((one) => one !== chosen)
              .map((one) => (
                <option key={one.name} value={shortName(one.name)}>
                  round {one.round}
                </option>
              ))}
          </select>
        </label>
        <label>
          <span>Show</span>
          <select value={look} onChange={(event) => choose({ look: event.currentTarget.value })}>
            <option value="mask">which weights exist</option>
            <option value="strength">how large they are</option>
            <option value="change" disabled={topology === undefined || topology.grown.length === 0}>
              what came and went
            </option>
            <option value="grown" disabled={topology === undefined || topology.grown.length === 0}>
              what came
            </option>
            <option value="dropped" disabled={topology === undefined || topology.grown.length === 0}>
              what went
            </option>
          </select>
        </label>
      </div>
      {asked.error !== undefined && <Problem error={asked.error} what="The network" />}
      {topology === undefined ? (
        asked.error === undefined && <Loading />
      ) : (
        <div class="grid">
          <Panel title={`${topology.tensor}, ${whole(topology.rows)} × ${whole(topology.columns)}`} wide>
            <dl class="facts">
              <Fact label="Weights that exist" note={`of ${count(topology.rows * topology.columns)}`}>
                {whole(topology.active_total)}
              </Fact>
              <Fact label="Density">{percent(topology.active_total / Math.max(1, topology.rows * topology.columns), 2)}</Fact>
              {topology.grown.length > 0 && (
                <>
                  <Fact label="Grown since">{whole(topology.grown_total)}</Fact>
                  <Fact label="Dropped since">{whole(topology.dropped_total)}</Fact>
                </>
              )}
            </dl>
            <Mask topology={topology} look={look} />
          </Panel>
          <Panel title="Weights of a unit (rows)">
            <Bars bars={barsOf(topology.row_degrees)} label="Units by how many weights they have" what="weights" />
          </Panel>
          <Panel title="Weights of an input (columns)">
            <Bars bars={barsOf(topology.column_degrees)} label="Inputs by how many weights leave them" what="weights" />
          </Panel>
          {first && (
            <Panel title="What the network looks at" wide>
              <Inputs topology={topology} job={job.value} />
            </Panel>
          )}
        </div>
      )}
    </>
  );
}
