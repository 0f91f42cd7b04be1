// What is known of jobs, workers and events at this moment, for all pages: two streams fill it, and pages are told four times
// a second at most that something changed.

import { openStream } from "./streams";
import type { Job, NamedEvent, Worker } from "./types";

const MOST_EVENTS = 500;
// Jobs of small models commit hundreds of rounds a second, which nobody reads one by one.
const SHOW_MS = 250;

export interface Connection {
  state: "connecting" | "connected" | "disconnected";
  message: string;
  /** When the last thing was heard, in milliseconds. */
  heard: number;
  since: number;
}

type Listener = () => void;

/** Things by their names, as a stream tells of them. */
class Things<T extends { name: string }> extends Map<string, T> {
  /** Whether all that there are have been told of. */
  known = false;
  /** Those that a stream that began anew has not told of again. */
  private stale = new Set<string>();

  put(thing: T): void {
    this.stale.delete(thing.name);
    this.set(thing.name, thing);
  }

  remove(name: string): void {
    this.stale.delete(name);
    this.delete(name);
  }

  beginAnew(): void {
    this.stale = new Set(this.keys());
  }

  caughtUp(): void {
    for (const name of this.stale) this.delete(name);
    this.stale.clear();
    this.known = true;
  }
}

class Live {
  readonly jobs = new Things<Job>();
  readonly workers = new Things<Worker>();
  /** The newest last. */
  events: NamedEvent[] = [];
  connection: Connection = { state: "connecting", message: "", heard: Date.now(), since: Date.now() };

  private readonly listeners = new Set<Listener>();
  private timer: number | undefined;
  private readonly onEvent = new Set<(event: NamedEvent) => void>();

  start(): void {
    // What was told is shown.
    const shown =
      <Data>(take: (data: Data) => void) =>
      (data: Data): void => {
        take(data);
        this.heard();
      };
    openStream("watch/jobs", {
      on: {
        job: shown((job: Job) => this.jobs.put(job)),
        event: shown((event: NamedEvent) => this.take(event)),
        gone: shown(({ name }: { name: string }) => this.jobs.remove(name)),
        "caught-up": shown(() => this.jobs.caughtUp()),
        reset: () => {
          this.jobs.beginAnew();
          this.events = [];
        },
        ...this.connectionEvents(),
      },
      open: (open) => this.opened(open),
      anew: () => this.jobs.beginAnew(),
    });
    openStream("watch/workers", {
      on: {
        worker: shown((worker: Worker) => this.workers.put(worker)),
        gone: shown(({ name }: { name: string }) => this.workers.remove(name)),
        "caught-up": shown(() => this.workers.caughtUp()),
        reset: () => this.workers.beginAnew(),
      },
      anew: () => this.workers.beginAnew(),
    });
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
    // A stream that is taken up again may tell what was told.
    if (this.events.some((known) => known.job === event.job && known.event.sequence === event.event.sequence)) return;
    this.events.push(event);
    if (this.events.length > 2 * MOST_EVENTS) this.events = this.events.slice(-MOST_EVENTS);
    for (const listener of this.onEvent) listener(event);
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

  private changed(): void {
    this.timer ??= window.setTimeout(() => {
      this.timer = undefined;
      for (const listener of this.listeners) listener();
    }, SHOW_MS);
  }
}

export const live = new Live();
