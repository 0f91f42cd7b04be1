// A job's specification as lines: "method.parameters.density" and its value.

import type { Spec } from "../api/types";

export type Flat = Map<string, string>;

function add(flat: Flat, path: string, value: unknown): void {
  if (value === null || value === undefined) return;
  if (Array.isArray(value)) {
    if (value.length === 0 || value.every((one) => typeof one !== "object")) flat.set(path, value.length === 0 ? "" : value.join(", "));
    else value.forEach((one, i) => add(flat, `${path}[${i}]`, one));
    return;
  }
  if (typeof value === "object") {
    const entries = Object.entries(value);
    if (entries.length === 0) flat.set(path, "");
    for (const [key, inner] of entries) add(flat, path === "" ? key : `${path}.${key}`, inner);
    return;
  }
  flat.set(path, String(value));
}

export function flatten(spec: Spec | undefined): Flat {
  const flat: Flat = new Map();
  add(flat, "", spec ?? {});
  return flat;
}

/** Says nothing: what a job file that does not name the field has. */
export function isUnset(value: string | undefined): boolean {
  return value === undefined || value === "" || value === "0" || value === "0.0" || value === "false";
}

export interface Difference {
  field: string;
  values: (string | undefined)[];
}

export function differences(specs: Flat[]): Difference[] {
  const fields = [...new Set(specs.flatMap((spec) => [...spec.keys()]))].sort();
  return fields
    .map((field) => ({ field, values: specs.map((spec) => spec.get(field)) }))
    .filter(({ values }) => values.some((value) => (isUnset(value) ? "" : value) !== (isUnset(values[0]) ? "" : values[0])));
}
