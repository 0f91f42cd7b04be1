// Small pieces that all pages share: states, times, numbers, messages.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { ApiError } from "../api/client";
import { shortName } from "../api/client";
import { Link } from "../router";
import { absolute, ago, time } from "./format";

type Tone = "good" | "bad" | "warn" | "busy" | "quiet";

const STATES: Record<string, [Tone, string]> = {
  PENDING: ["quiet", "○"],
  RUNNING: ["busy", "▶"],
  PAUSED: ["quiet", "‖"],
  CANCELLING: ["quiet", "◌"],
  CANCELLED: ["quiet", "⊘"],
  SUCCEEDED: ["good", "✓"],
  FAILED: ["bad", "✕"],
  ACTIVE: ["good", "●"],
  DRAINING: ["warn", "◑"],
  LOST: ["bad", "✕"],
  LEFT: ["quiet", "○"],
  QUARANTINED: ["warn", "▲"],
  WAITING: ["quiet", "○"],
  LEASED: ["busy", "▶"],
  UPLOADING: ["busy", "▲"],
  ACCEPTED: ["good", "✓"],
  REJECTED: ["bad", "✕"],
  EXPIRED: ["warn", "◌"],
  LEFT_OUT: ["quiet", "⊘"],
};

export function State({ of }: { of: string | undefined }) {
  const [tone, sign] = STATES[of ?? ""] ?? ["quiet", "?"];
  return (
    <span class={`state ${tone}`}>
      <span aria-hidden="true">{sign}</span> {(of ?? "unknown").replaceAll("_", " ").toLowerCase()}
    </span>
  );
}

let ticking = 0;
const clocks = new Set<() => void>();

/** The time, about once a second. */
export function useNow(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const listener = (): void => setNow(Date.now());
    clocks.add(listener);
    if (clocks.size === 1) ticking = window.setInterval(() => clocks.forEach((tell) => tell()), 1000);
    return () => {
      clocks.delete(listener);
      if (clocks.size === 0) window.clearInterval(ticking);
    };
  }, []);
  return now;
}

/** How long ago; the date is shown to who points at it, and read out. */
export function Ago({ at }: { at: string | number | undefined }) {
  const now = useNow();
  const when = typeof at === "number" ? at : time(at);
  if (Number.isNaN(when)) return <span class="muted">–</span>;
  return (
    <time dateTime={new Date(when).toISOString()} title={absolute(when)}>
      {ago(when, now)}
    </time>
  );
}

/** Names come from anywhere: one line, cut where it has to be, whole to who points at it. */
export function Name({ children, class: more }: { children: string; class?: string }) {
  return (
    <bdi class={`name ${more ?? ""}`} title={children}>
      {children === "" ? "(no name)" : children}
    </bdi>
  );
}

export function JobLink({ name, page = "" }: { name: string; page?: string }) {
  const id = shortName(name);
  return (
    <Link to={`/jobs/${encodeURIComponent(id)}${page}`} class="name" title={id}>
      <bdi>{id}</bdi>
    </Link>
  );
}

export function WorkerLink({ name }: { name: string }) {
  const id = shortName(name);
  if (id === "") return <span class="muted">–</span>;
  return (
    <Link to={`/workers?contains=${encodeURIComponent(id)}`} class="name" title={id}>
      <bdi>{id}</bdi>
    </Link>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

export function Command({ children }: { children: string }) {
  return <code class="command">{children}</code>;
}

export function Loading() {
  return (
    <p class="loading" role="status">
      Loading…
    </p>
  );
}

export function Problem({ error, what }: { error: ApiError; what: string }) {
  if (error.unknown) {
    return (
      <Empty title={`${what} is not served here.`}>
        <p>This version of the dashboard, or of the coordinator, does not know this call. Everything else works.</p>
      </Empty>
    );
  }
  return (
    <div class="problem" role="alert">
      <p>
        <strong>{what} could not be shown.</strong>
      </p>
      <p class="wrap">{error.message}</p>
      {error.violations.length > 0 && (
        <ul>
          {error.violations.map((violation) => (
            <li key={violation.field + violation.message} class="wrap">
              <code>{violation.field}</code>: {violation.message}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

export function Panel({ title, aside, children, wide }: { title: string; aside?: ComponentChildren; children: ComponentChildren; wide?: boolean }) {
  return (
    <section class={wide ? "panel wide" : "panel"} aria-label={title}>
      <header class="panel-head">
        <h2>{title}</h2>
        {aside !== undefined && <div class="panel-aside">{aside}</div>}
      </header>
      {children}
    </section>
  );
}

export function Fact({ label, children, note }: { label: string; children: ComponentChildren; note?: ComponentChildren }) {
  return (
    <div class="fact">
      <dt>{label}</dt>
      <dd>
        {children}
        {note !== undefined && <span class="fact-note">{note}</span>}
      </dd>
    </div>
  );
}

/** A table that scrolls by itself where it is wider than the screen, and where it is long, too. */
export function Scroll({ children, label, tall }: { children: ComponentChildren; label: string; tall?: boolean }) {
  return (
    <div class={tall === true ? "scroll tall" : "scroll"} role="region" aria-label={label} tabIndex={0}>
      {children}
    </div>
  );
}

export function Meter({ share, label }: { share: number; label: string }) {
  const percent = Math.round(100 * Math.min(1, Math.max(0, Number.isNaN(share) ? 0 : share)));
  return <progress class="meter" max={100} value={percent} aria-label={label} />;
}
