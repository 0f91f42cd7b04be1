// The curves of a job's rounds.

import { useMemo } from "preact/hooks";
import type { Job, Round } from "../api/types";
import { LineChart, type Line } from "../charts/line";
import { bytes, digits, flops, metricOf, percent, real, seconds, span } from "./format";

type Value = (round: Round) => number;

/** A line for each run, or one. */
export function linesOf(rounds: Round[], values: [string, Value][]): Line[] {
  const runs = [...new Set(rounds.map((round) => round.run))];
  const lines: Line[] = [];
  for (const [label, value] of values) {
    for (const run of runs) {
      const own = rounds.filter((round) => round.run === run && Number.isFinite(value(round)));
      if (own.length === 0) continue;
      const name = run === "" ? label : values.length === 1 ? run : `${label}, ${run}`;
      lines.push({ label: name, x: own.map((round) => round.round), y: own.map(value) });
    }
  }
  return lines.slice(0, 16);
}

export function JobCurves({ job, rounds }: { job: Job; rounds: Round[] }) {
  const metric = metricOf(job.spec?.evaluation?.main_metric);
  const charts = useMemo(() => {
    const loss: [string, Value][] = [
      ["training", (round) => real(round.train_loss)],
      ["test", (round) => real(round.test_loss)],
      ["test at the participants", (round) => real(round.federated_test_loss)],
    ];
    const all: { title: string; lines: Line[]; text: (value: number) => string; from?: number }[] = [
      { title: metric.label.charAt(0).toUpperCase() + metric.label.slice(1), lines: linesOf(rounds, [[metric.label, (round) => real(round.main_metric)]]), text: digits },
      { title: "Loss", lines: linesOf(rounds, loss), text: digits },
      { title: "Perplexity", lines: linesOf(rounds, [["perplexity", (round) => real(round.perplexity)]]), text: digits },
      { title: "Density", lines: linesOf(rounds, [["density", (round) => real(round.density)]]), text: (value) => percent(value), from: 0 },
      {
        title: "Bytes sent and received in a round, and those of a dense model",
        lines: linesOf(rounds, [
          ["sparse", (round) => round.bytes_sent + round.bytes_received],
          ["dense", (round) => round.dense_bytes],
        ]),
        text: bytes,
        from: 0,
      },
      {
        title: "Floating-point operations of a round's training",
        lines: linesOf(rounds, [
          ["sparse", (round) => real(round.train_flops) || NaN],
          ["dense", (round) => real(round.dense_train_flops) || NaN],
        ]),
        text: flops,
        from: 0,
      },
      { title: "Time of a round", lines: linesOf(rounds, [["time", (round) => seconds(round.duration)]]), text: span, from: 0 },
      {
        title: "Weights that moved, and positions ever tried",
        lines: linesOf(rounds, [
          ["dropped and grown, of those that exist", (round) => (round.active_weights > 0 && round.weights_changed > 0 ? round.weights_changed / round.active_weights : NaN)],
          ["ever active, of all positions", (round) => real(round.explored) || NaN],
        ]),
        text: (value) => percent(value),
        from: 0,
      },
    ];
    return all.filter((chart) => chart.lines.length > 0);
  }, [rounds, metric.label]);
  return (
    <div class="charts">
      {charts.map((chart) => (
        <LineChart key={chart.title} {...chart} sync={job.name} />
      ))}
    </div>
  );
}
