// The layers of the newest round: how many weights of each exist, and how that changed.

import type { Round } from "../api/types";
import { Spark } from "../charts/spark";
import { count, digits, percent, real } from "./format";
import { Empty, Meter, Scroll } from "./parts";

export function JobLayers({ rounds }: { rounds: Round[] }) {
  const newest = rounds.at(-1);
  if (newest === undefined || newest.layers.length === 0) return <Empty title="No layer of this job can be sparse, or no round is done yet." />;
  const errors = newest.layers.some((layer) => layer.output_error !== undefined);
  return (
    <Scroll label="Layers">
      <table>
        <thead>
          <tr>
            <th>Tensor</th>
            <th class="number">Weights</th>
            <th class="number">of</th>
            <th class="number">Density</th>
            <th>Over the rounds</th>
            {errors && <th class="number">Output error</th>}
          </tr>
        </thead>
        <tbody>
          {newest.layers.map((layer) => {
            const share = layer.active / Math.max(1, layer.size);
            const history = rounds.filter((round) => round.run === newest.run).map((round) => {
              const then = round.layers.find((other) => other.name === layer.name);
              return then === undefined ? NaN : then.active / Math.max(1, then.size);
            });
            return (
              <tr key={layer.name}>
                <th scope="row">
                  <code>{layer.name}</code>
                </th>
                <td class="number">{count(layer.active)}</td>
                <td class="number">{count(layer.size)}</td>
                <td class="number">
                  {percent(share)}
                  <Meter share={share} label={`Density of ${layer.name}`} />
                </td>
                <td>
                  <Spark values={history} label={`Density of ${layer.name} over the rounds, now ${percent(share)}`} />
                </td>
                {errors && <td class="number">{digits(real(layer.output_error))}</td>}
              </tr>
            );
          })}
        </tbody>
      </table>
    </Scroll>
  );
}
