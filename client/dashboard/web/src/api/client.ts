// Requests to the dashboard's server, docs/reference/dashboard-api.md.

import type { Session } from "./types";

export interface Violation {
  field: string;
  message: string;
}

/** What a request failed with: the server's words, which say what to do. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly reason: string,
    message: string,
    readonly violations: Violation[] = [],
  ) {
    super(message);
  }

  /** The coordinator, or the dashboard's server, does not know such a request: it is of an older version. */
  get unknown(): boolean {
    return this.status === 501 || this.code === "UNIMPLEMENTED" || this.reason === "PATH_NOT_FOUND";
  }
}

async function answerOf<T>(response: Response): Promise<T> {
  const text = await response.text();
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new ApiError(response.status, "UNKNOWN", "", `The dashboard answered ${response.status} and no JSON.`);
  }
  if (response.ok) return body as T;
  const error = (body as { error?: Partial<ApiError> & { violations?: Violation[] } }).error ?? {};
  throw new ApiError(
    response.status,
    error.code ?? "UNKNOWN",
    error.reason ?? "",
    error.message ?? `The dashboard answered ${response.status}.`,
    error.violations ?? [],
  );
}

const UNREACHABLE = "The dashboard itself does not answer. Is `espalier dashboard` still running?";

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/api/v1/${path}`, { signal: signal ?? null, headers: { accept: "application/json" } });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "UNAVAILABLE", "DASHBOARD_AWAY", UNREACHABLE);
  }
  return answerOf<T>(response);
}

let session: Promise<Session> | undefined;

/** Who one is for the coordinator. Asked once, and again after an error. */
export function getSession(): Promise<Session> {
  session ??= get<Session>("session").catch((error: unknown) => {
    session = undefined;
    throw error;
  });
  return session;
}

async function send<T>(path: string, body: unknown, token: string): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/api/v1/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-espalier-csrf": token },
      body: JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, "UNAVAILABLE", "DASHBOARD_AWAY", UNREACHABLE);
  }
  return answerOf<T>(response);
}

export async function post<T>(path: string, body: unknown = {}): Promise<T> {
  try {
    return await send<T>(path, body, (await getSession()).csrf_token);
  } catch (error) {
    // A dashboard that was started again has another token.
    if (!(error instanceof ApiError) || error.status !== 403 || error.reason !== "ACTION_REFUSED") throw error;
    session = undefined;
    return send<T>(path, body, (await getSession()).csrf_token);
  }
}

/** "jobs/a" → "a"; other names stay. */
export function shortName(name: string): string {
  const at = name.indexOf("/");
  return at < 0 ? name : name.slice(at + 1);
}

/** Part of a path. */
export function part(name: string): string {
  return encodeURIComponent(shortName(name));
}
