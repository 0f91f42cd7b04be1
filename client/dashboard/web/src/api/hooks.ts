// What pages use to ask and to listen.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get, getSession } from "./client";
import { live } from "./live";
import type { Session } from "./types";

export interface Asked<T> {
  value: T | undefined;
  error: ApiError | undefined;
  /** Asks once more; what there is stays until the answer comes. */
  again: () => void;
}

/** Asks for `path`; not at all where it is "". */
export function useGet<T>(path: string): Asked<T> {
  const [state, setState] = useState<{ path: string; value?: T; error?: ApiError }>({ path });
  const [times, setTimes] = useState(0);
  useEffect(() => {
    if (path === "") return undefined;
    const stop = new AbortController();
    get<T>(path, stop.signal).then(
      (value) => setState({ path, value }),
      (error: unknown) => {
        if (stop.signal.aborted) return;
        const known = error instanceof ApiError ? error : new ApiError(0, "UNKNOWN", "", String(error));
        setState((former) => (former.path === path && former.value !== undefined ? { ...former, error: known } : { path, error: known }));
      },
    );
    return () => stop.abort();
  }, [path, times]);
  const again = useCallback(() => setTimes((n) => n + 1), []);
  const current = state.path === path ? state : { path };
  return { value: current.value, error: current.error, again };
}

/** Renders again when something changed of what is live. */
export function useLive(): typeof live {
  const [, setTick] = useState(0);
  useEffect(() => live.subscribe(() => setTick((n) => n + 1)), []);
  return live;
}

export function useSession(): Session | undefined {
  const [session, setSession] = useState<Session>();
  useEffect(() => {
    let gone = false;
    const ask = (): void => {
      getSession().then(
        (value) => !gone && setSession(value),
        () => !gone && window.setTimeout(ask, 3000),
      );
    };
    ask();
    return () => {
      gone = true;
    };
  }, []);
  return session;
}

/** Calls `then` each `ms` while the page is there. */
export function useEvery(ms: number, then: () => void): void {
  const newest = useRef(then);
  newest.current = then;
  useEffect(() => {
    const timer = window.setInterval(() => document.visibilityState !== "hidden" && newest.current(), ms);
    return () => window.clearInterval(timer);
  }, [ms]);
}
