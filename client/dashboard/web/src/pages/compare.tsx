// Several jobs in one chart, and what they were asked for that differs.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, part, shortName } from "../api/client";
import { useLive } from "../api/hooks";
import type { Job, Round } from "../api/types";
import { LineChart } from "../charts/line";
import { bytes, digits, metricOf, percent, real, seconds, span } from "../parts/format";
import { DiffTable } from "../parts/diff_table";
import { linesOf } from "../parts/job_curves";
import { Empty, JobLink, Panel, Scroll, State } from "../parts/parts";
import { differences, flatten } from "../parts/spec";
import { choose, type Place } from "../router";

const MOST_JOBS = 8;

interface Measure {
  label: string;
  value: (round: Round) => number;
  text: (value: number) => string;
}

const MEASURES: Record<string, Measure> = {
  metric: { label: "Main metric", value: (round) => real(round.main_metric), text: digits },
  loss: { label: "Training loss", value: (round) => real(round.train_loss), text: digits },
  test_loss: { label: "Test loss", value: (round) => real(round.test_loss), text: digits },
  density: { label: "Density", value: (round) => real(round.density), text: (value) => percent(value) },
  bytes: { label: "Bytes in a round", value: (round) => round.bytes_sent + round.bytes_received, text: bytes },
  time: { label: "Time of a round", value: (round) => seconds(round.duration), text: span },
};

interface Compared {
  id: string;
  job?: Job;
  rounds: Round[];
  error?: string;
}

function useCompared(ids: string[]): Compared[] {
  const [all, setAll] = useState<Compared[]>([]);
  const key = ids.join("\n");
  useEffect(() => {
    let gone = false;
    const ask = async (id: string): Promise<Compared> => {
      try {
        const [job, { rounds }] = await Promise.all([get<Job>(`jobs/${part(id)}`), get<{ rounds: Round[] }>(`jobs/${part(id)}/rounds?max_points=500`)]);
        return { id, job, rounds };
      } catch (error) {
        return { id, rounds: [], error: error instanceof Error ? error.message : String(error) };
      }
    };
    const askAll = (): void => void Promise.all(ids.map(ask)).then((answers) => !gone && setAll(answers));
    askAll();
    const timer = window.setInterval(() => document.visibilityState !== "hidden" && askAll(), 5000);
    return () => {
      gone = true;
      window.clearInterval(timer);
    };
  }, [key]);
  return all.filter((one) => ids.includes(one.id));
}

function save(name: string, content: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function quoted(text: string): string {
  return `"${text.replaceAll('"', '""')}"`;
}

function csvOf(compared: Compared[]): string {
  const rows = compared.flatMap(({ id, rounds }) => rounds.map((round) => [quoted(id), quoted(round.run), round.round, ...Object.values(MEASURES).map((measure) => measure.value(round)).map((value) => (Number.isFinite(value) ? value : ""))].join(",")));
  return [["job", "run", "round", ...Object.keys(MEASURES)].join(","), ...rows].join("\n") + "\n";
}

export function ComparePage({ place }: { place: Place }) {
  const ids = (place.query.get("jobs") ?? "").split(",").filter((id) => id !== "").slice(0, MOST_JOBS);
  const { jobs } = useLive();
  const compared = useCompared(ids);
  const canvas = useRef<HTMLCanvasElement>();
  const name = place.query.get("by") ?? "metric";
  const measure = MEASURES[name] ?? (MEASURES.metric as Measure);
  const lines = useMemo(
    () => compared.flatMap(({ id, rounds }) => linesOf(rounds, [[id, measure.value]]).map((line) => ({ ...line, label: line.label === id ? id : `${id}, ${line.label}` }))),
    [compared, measure],
  );
  const specs = compared.filter((one) => one.job !== undefined);
  const different = useMemo(() => differences(specs.map((one) => flatten(one.job?.spec))), [compared]);
  const others = [...jobs.values()].map((job) => shortName(job.name)).filter((id) => !ids.includes(id)).slice(0, 1000);
  const set = (now: string[]): void => choose({ jobs: now.join(",") });
  return (
    <>
      <div class="page-head">
        <h1>Compare</h1>
        {compared.length > 0 && (
          <div class="page-actions">
            <button type="button" onClick={() => save("jobs.csv", new Blob([csvOf(compared)], { type: "text/csv" }))}>
              Save as CSV
            </button>
            <button type="button" onClick={() => canvas.current?.toBlob((blob) => blob !== null && save("jobs.png", blob))}>
              Save as PNG
            </button>
          </div>
        )}
      </div>
      <div class="filters">
        <label>
          <span>Add a job</span>
          <input
            type="text"
            list="all-jobs"
            placeholder={ids.length >= MOST_JOBS ? `${MOST_JOBS} at most` : "its name"}
            disabled={ids.length >= MOST_JOBS}
            onChange={(event) => {
              const id = event.currentTarget.value.trim();
              event.currentTarget.value = "";
              if (id !== "" && !ids.includes(id)) set([...ids, id]);
            }}
          />
        </label>
        <datalist id="all-jobs">
          {others.map((id) => (
            <option key={id} value={id} />
          ))}
        </datalist>
        <label>
          <span>Curve</span>
          <select value={name} onChange={(event) => choose({ by: event.currentTarget.value })}>
            {Object.entries(MEASURES).map(([key, one]) => (
              <option key={key} value={key}>
                {one.label}
              </option>
            ))}
          </select>
        </label>
      </div>
      {ids.length === 0 && (
        <Empty title="No job is chosen.">
          <p>Add some by name, or tick them in the list of jobs.</p>
        </Empty>
      )}
      {compared.length > 0 && (
        <>
          <Scroll label="Jobs that are compared">
            <table>
              <thead>
                <tr>
                  <th>Job</th>
                  <th>State</th>
                  <th class="number">Round</th>
                  <th class="number">Best</th>
                  <th class="number">Density</th>
                  <th class="number">Wire in all</th>
                  <th>
                    <span class="sr-only">Take away</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {compared.map(({ id, job, rounds, error }) => (
                  <tr key={id}>
                    <th scope="row">{job === undefined ? <bdi>{id}</bdi> : <JobLink name={job.name} />}</th>
                    <td class="wrap">{error ?? <State of={job?.state} />}</td>
                    <td class="number">{job?.round ?? "–"}</td>
                    <td class="number">{job === undefined || job.best_round === 0 ? "–" : `${digits(real(job.best_metric))} ${metricOf(job.spec?.evaluation?.main_metric).label}`}</td>
                    <td class="number">{percent(real(rounds.at(-1)?.density))}</td>
                    <td class="number">{bytes(((rounds.at(-1)?.round ?? 0) / Math.max(1, rounds.length)) * rounds.reduce((sum, round) => sum + round.bytes_sent + round.bytes_received, 0))}</td>
                    <td>
                      <button type="button" class="plain" onClick={() => set(ids.filter((other) => other !== id))} aria-label={`Take ${id} away`}>
                        ✕
                      </button>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </Scroll>
          <div class="charts single">{lines.length > 0 ? <LineChart title={measure.label} lines={lines} text={measure.text} height={340} onCanvas={(element) => (canvas.current = element)} /> : <Empty title="No round of these jobs has that." />}</div>
          {specs.length > 1 && (
            <Panel title="What was asked for that differs" wide>
              <DiffTable names={specs.map(({ id }) => id)} different={different} />
            </Panel>
          )}
        </>
      )}
    </>
  );
}
