// A line without axes, of the size of a word.

export function Spark({ values, label }: { values: number[]; label: string }) {
  const shown = values.filter((value) => Number.isFinite(value)).slice(-120);
  if (shown.length < 2) return <span class="spark muted">not yet</span>;
  const low = Math.min(...shown);
  const high = Math.max(...shown);
  const points = shown
    .map((value, i) => `${((100 * i) / (shown.length - 1)).toFixed(1)},${(26 - (24 * (value - low)) / (high - low || 1)).toFixed(1)}`)
    .join(" ");
  return (
    <svg class="spark" viewBox="0 0 100 28" preserveAspectRatio="none" role="img" aria-label={label}>
      <polyline points={points} fill="none" stroke="currentColor" stroke-width="1.5" vector-effect="non-scaling-stroke" />
    </svg>
  );
}
