// Whether all is well, in one sentence, and what it waits for where it is not.

import { shortName } from "../api/client";
import type { Connection } from "../api/live";
import type { Cluster, Job, Worker } from "../api/types";
import { span, time } from "./format";

export interface Health {
  tone: "good" | "warn" | "bad";
  sentence: string;
  /** More to look at, the gravest first. */
  notes: { text: string; to?: string }[];
}

const RECENTLY_MS = 3_600_000;
const DAYS_BEFORE_EXPIRY = 14;

function plural(n: number, one: string, more = `${one}s`): string {
  return `${n} ${n === 1 ? one : more}`;
}

function jobPath(job: Job): string {
  return `/jobs/${encodeURIComponent(shortName(job.name))}`;
}

function ofState<T extends { state?: string }>(things: T[], state: string): T[] {
  return things.filter((thing) => thing.state === state);
}

export function healthOf(all: { jobs: Job[]; workers: Worker[]; cluster: Cluster | undefined; connection: Connection; now: number }): Health {
  const { jobs, workers, cluster, connection, now } = all;
  if (connection.state === "disconnected") {
    return { tone: "bad", sentence: `The coordinator has not been heard for ${span((now - connection.heard) / 1000)}: ${connection.message}`, notes: [] };
  }
  const running = ofState(jobs, "RUNNING");
  const open = jobs.filter((job) => job.state === "RUNNING" || job.state === "PENDING");
  const waiting = open.filter((job) => job.conditions.length > 0);
  const active = ofState(workers, "ACTIVE");
  const lost = ofState(workers, "LOST");
  const quarantined = ofState(workers, "QUARANTINED");
  const draining = ofState(workers, "DRAINING");
  const failed = ofState(jobs, "FAILED").filter((job) => now - time(job.end_time) < RECENTLY_MS);

  const notes: Health["notes"] = [];
  for (const job of waiting.slice(0, 5)) {
    notes.push({ text: `${shortName(job.name)}: ${job.conditions[0]?.message ?? "it waits"}`, to: jobPath(job) });
  }
  for (const job of failed.slice(0, 3)) {
    notes.push({ text: `${shortName(job.name)} failed: ${job.failure_message}`, to: jobPath(job) });
  }
  if (quarantined.length > 0) notes.push({ text: `${plural(quarantined.length, "worker")} in quarantine: ${quarantined[0]?.quarantine_reason ?? ""}`, to: "/workers?state=QUARANTINED" });
  if (lost.length > 0) notes.push({ text: `${plural(lost.length, "worker")} gone without a word`, to: "/workers?state=LOST" });
  if (draining.length > 0) notes.push({ text: `${plural(draining.length, "worker")} draining: they take no more tasks`, to: "/workers?state=DRAINING" });
  const days = (time(cluster?.certificate_expire_time) - now) / 86_400_000;
  if (days < DAYS_BEFORE_EXPIRY) notes.push({ text: days < 0 ? "The coordinator's certificate has ended" : `The coordinator's certificate ends in ${span(days * 86_400)}`, to: "/system" });

  const stuck = waiting.length > 0 && waiting.length === open.length;
  if (stuck) {
    const first = waiting[0];
    return { tone: "bad", sentence: waiting.length === 1 && first !== undefined ? `Nothing moves, the only job waits: ${first.conditions[0]?.message ?? ""}.`.replace(/\.\.$/, ".") : `Nothing moves: all ${waiting.length} jobs wait.`, notes: waiting.length === 1 ? notes.slice(1) : notes };
  }
  if (open.length === 0) {
    const sentence = active.length === 0 ? "Nothing to do, and no worker is connected." : `Nothing to do: ${plural(active.length, "worker")} ready, no job in work.`;
    return { tone: notes.length > 0 || active.length === 0 ? "warn" : "good", sentence, notes };
  }
  const sentence = `${plural(running.length, "job")} in work on ${plural(active.length, "worker")}${waiting.length > 0 ? `; ${plural(waiting.length, "job waits", "jobs wait")}` : ""}.`;
  return { tone: waiting.length > 0 || quarantined.length > 0 || lost.length > 0 || failed.length > 0 || days < DAYS_BEFORE_EXPIRY ? "warn" : "good", sentence: `${notes.length === 0 ? "All is well: " : ""}${sentence}`, notes };
}
