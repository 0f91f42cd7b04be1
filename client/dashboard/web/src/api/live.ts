// What is known of jobs, workers and events at this moment, for all pages: two streams fill it, and pages are told at most once
// a frame that something changed.

import { get } from "./client";
import { openStream, type Stream } from "./streams";
import type { Job, NamedEvent, Worker } from "./types";

const MOST_EVENTS = 500;
const POLL_MS = 2000;

export interface Connection {
  state: "connecting" | "connected" | "disconnected";
  message: string;
  /** When the last thing was heard, in milliseconds. */
  heard: number;
  since: number;
}

type Listener = () => void;

class Live {
  readonly jobs = new Map<string, Job>();
  readonly workers = new Map<string, Worker>();
  /** The newest last. */
  events: NamedEvent[] = [];
  jobsKnown = false;
  workersKnown = false;
  /** Whether events of all jobs come: a coordinator that does not tell of changes by itself has none. */
  eventsCome = false;
  connection: Connection = { state: "connecting", message: "", heard: Date.now(), since: Date.now() };

  private readonly listeners = new Set<Listener>();
  private frame: number | undefined;
  private readonly streams: Stream[] = [];
  private readonly pollers: number[] = [];
  private readonly onEvent = new Set<(event: NamedEvent) => void>();

  start(): void {
    this.streams.push(
      openStream("watch/jobs", {
        on: {
          job: (job: Job) => this.jobs.set(job.name, job) && this.heard(),
          event: (event: NamedEvent) => this.take(event),
          gone: ({ name }: { name: string }) => this.jobs.delete(name) && this.heard(),
          "caught-up": () => {
            this.jobsKnown = true;
            this.heard();
          },
          reset: () => {
            this.jobs.clear();
            this.events = [];
            this.heard();
          },
          ...this.connectionEvents(),
        },
        open: (open) => this.opened(open),
        missing: () => {
          this.poll(async () => {
            const { jobs } = await get<{ jobs: Job[] }>("jobs?page_size=1000");
            this.jobs.clear();
            for (const job of jobs) this.jobs.set(job.name, job);
            this.jobsKnown = true;
          });
        },
      }),
      openStream("watch/workers", {
        on: {
          worker: (worker: Worker) => this.workers.set(worker.name, worker) && this.changed(),
          gone: ({ name }: { name: string }) => this.workers.delete(name) && this.changed(),
          "caught-up": () => {
            this.workersKnown = true;
            this.changed();
          },
          reset: () => {
            this.workers.clear();
            this.changed();
          },
        },
        missing: () =>
          this.poll(async () => {
            const { workers } = await get<{ workers: Worker[] }>("workers");
            this.workers.clear();
            for (const worker of workers) this.workers.set(worker.name, worker);
            this.workersKnown = true;
          }),
      }),
    );
  }

  subscribe(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Every event as it comes. */
  hear(listener: (event: NamedEvent) => void): () => void {
    this.onEvent.add(listener);
    return () => this.onEvent.delete(listener);
  }

  private connectionEvents() {
    return {
      disconnected: ({ message }: { message?: string }) =>
        this.lost(message ?? "The coordinator cannot be reached."),
      connected: () => this.heard(),
    };
  }

  private take(event: NamedEvent): void {
    this.eventsCome = true;
    // A stream that is taken up again may tell what was told.
    if (this.events.some((known) => known.job === event.job && known.event.sequence === event.event.sequence)) return;
    this.events.push(event);
    if (this.events.length > 2 * MOST_EVENTS) this.events = this.events.slice(-MOST_EVENTS);
    for (const listener of this.onEvent) listener(event);
    this.heard();
  }

  private opened(open: boolean): void {
    if (open) this.heard();
    else this.lost("The dashboard itself does not answer. Is `espalier dashboard` still running?");
  }

  private lost(message: string): void {
    const since = this.connection.state === "disconnected" ? this.connection.since : Date.now();
    this.connection = { ...this.connection, state: "disconnected", message, since };
    this.changed();
  }

  private heard(): void {
    this.connection = { ...this.connection, state: "connected", message: "", heard: Date.now() };
    this.changed();
  }

  private poll(ask: () => Promise<void>): void {
    const once = async (): Promise<void> => {
      if (document.visibilityState === "hidden") return;
      try {
        await ask();
        this.heard();
      } catch (error) {
        this.lost(error instanceof Error ? error.message : String(error));
      }
    };
    void once();
    this.pollers.push(window.setInterval(() => void once(), POLL_MS));
  }

  private changed(): void {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      for (const listener of this.listeners) listener();
    });
  }
}

export const live = new Live();
