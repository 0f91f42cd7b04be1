// How often each value occurs, as bars.

import { whole } from "../parts/format";

export interface Bar {
  from: number;
  to: number;
  count: number;
}

export function Bars({ bars, label, what }: { bars: Bar[]; label: string; what: string }) {
  if (bars.length === 0) return <p class="muted">There is nothing to count.</p>;
  const most = Math.max(...bars.map((bar) => bar.count), 1);
  const width = 100 / bars.length;
  const first = bars[0];
  const last = bars.at(-1);
  return (
    <figure class="chart">
      <figcaption>{label}</figcaption>
      <svg class="bars" viewBox="0 0 100 60" preserveAspectRatio="none" role="img" aria-label={`${label}: ${bars.map((bar) => `${name(bar)} ${what}: ${bar.count}`).slice(0, 40).join("; ")}`}>
        {bars.map((bar, i) => (
          <rect key={bar.from} x={i * width + 0.1 * width} width={0.8 * width} y={60 - (58 * bar.count) / most} height={(58 * bar.count) / most}>
            <title>{`${name(bar)} ${what}: ${whole(bar.count)}`}</title>
          </rect>
        ))}
      </svg>
      <div class="bars-axis">
        <span>{first !== undefined && name(first)}</span>
        <span>{what}</span>
        <span>{last !== undefined && name(last)}</span>
      </div>
    </figure>
  );
}

function name(bar: Bar): string {
  return bar.to > bar.from ? `${whole(bar.from)}–${whole(bar.to)}` : whole(bar.from);
}
