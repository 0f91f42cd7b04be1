// Fields that differ between what several jobs were asked for.

import { Scroll } from "./parts";
import { isUnset, type Difference } from "./spec";

export function DiffTable({ names, different }: { names: string[]; different: Difference[] }) {
  if (different.length === 0) return <p>They were asked for the same.</p>;
  return (
    <Scroll label="Fields that differ">
      <table>
        <thead>
          <tr>
            <th>Field</th>
            {names.map((name) => (
              <th key={name}>
                <bdi>{name}</bdi>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {different.map(({ field, values }) => (
            <tr key={field}>
              <th scope="row">
                <code>{field}</code>
              </th>
              {values.map((value, i) => (
                <td key={i} class="wrap">
                  {isUnset(value) ? <span class="muted">not set</span> : value}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}
