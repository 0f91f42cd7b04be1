// Numbers, sizes and times as people read them.

import type { Real } from "../api/types";

const MINUS = "−";

/** A number of the API; NaN where there is none. */
export function real(value: Real | undefined): number {
  if (value === undefined) return NaN;
  return typeof value === "number" ? value : Number(value);
}

export function whole(value: number): string {
  return Math.round(value).toLocaleString("en-US").replace("-", MINUS);
}

/** Four digits that say something. */
export function digits(value: number): string {
  if (Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : `${MINUS}∞`;
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e6 || size < 1e-3 ? value.toExponential(2) : Number(value.toPrecision(4)).toString();
  return text.replace("-", MINUS);
}

export function percent(share: number, places = 1): string {
  return Number.isNaN(share) ? "–" : `${(100 * share).toFixed(places)} %`;
}

function scaled(value: number, step: number, units: string[]): string {
  let at = 0;
  let left = value;
  while (Math.abs(left) >= step && at < units.length - 1) {
    left /= step;
    at += 1;
  }
  const text = at === 0 ? String(Math.round(left)) : left.toFixed(left < 10 ? 2 : left < 100 ? 1 : 0);
  return `${text} ${units[at]}`;
}

export function bytes(value: number): string {
  return scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
}

export function flops(value: number): string {
  return scaled(value, 1000, ["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"]);
}

export function count(value: number): string {
  if (value < 10_000) return whole(value);
  return scaled(value, 1000, ["", "k", "M", "G", "T"]).trim();
}

/** "1.5s" → 1.5 */
export function seconds(duration: string | undefined): number {
  return duration === undefined ? NaN : Number.parseFloat(duration);
}

export function span(value: number): string {
  if (Number.isNaN(value)) return "–";
  if (value < 0.001) return "0 ms";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  if (value < 172_800) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86_400)} d`;
}

export function time(text: string | undefined): number {
  return text === undefined ? NaN : Date.parse(text);
}

export function ago(at: number, now: number): string {
  const passed = (now - at) / 1000;
  if (Number.isNaN(passed)) return "–";
  if (passed < -1) return `in ${span(-passed)}`;
  return passed < 1 ? "just now" : `${span(passed)} ago`;
}

export function clock(at: number): string {
  return new Date(at).toLocaleTimeString("en-GB");
}

export function absolute(at: number): string {
  return new Date(at).toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC");
}

/** What the main metric of a job is called, and whether less of it is better. */
export function metricOf(name: string | undefined): { label: string; less: boolean } {
  const label = (name === undefined || name === "" ? "accuracy" : name).replaceAll("_", " ");
  const less = /loss|mse|rmse|mae|perplexity/.test(label);
  return { label, less };
}
