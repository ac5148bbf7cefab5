interface BarChartProps {
  /** Says what is plotted, to whoever can't see it; the table beside has the figures. */
  label: string;
  bars: readonly { name: string; value: number }[];
  format: (value: number) => string;
}

const WIDTH = 600;
const HEIGHT = 140;
const GAP = 3;

/** Bars in time, oldest first in the direction of reading. The figures of a bar are its tooltip. */
export function BarChart({ label, bars, format }: BarChartProps) {
  const top = Math.max(...bars.map(({ value }) => value), 0);
  const step = WIDTH / Math.max(1, bars.length);
  return (
    <figure>
      <figcaption className="flex items-baseline justify-between text-muted">
        <span>{label}</span>
        <span className="text-xs tabular-nums">{format(top)}</span>
      </figcaption>
      <svg role="img" aria-label={label} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" className="mt-2 h-36 w-full border-b border-line-strong rtl:-scale-x-100">
        <path d={`M0 .5H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}`} className="stroke-line" strokeDasharray="3 4" vectorEffect="non-scaling-stroke" />
        {bars.map(({ name, value }, index) => {
          const height = top === 0 ? 0 : Math.max(value > 0 ? 2 : 0, (value / top) * HEIGHT);
          return (
            <rect key={name} x={index * step + GAP / 2} y={HEIGHT - height} width={step - GAP} height={height} rx={2} className="fill-accent">
              <title>{`${name}: ${format(value)}`}</title>
            </rect>
          );
        })}
      </svg>
      <div className="mt-1 flex justify-between text-xs text-muted tabular-nums" aria-hidden="true">
        <span>{bars[0]?.name}</span>
        <span>{bars.at(-1)?.name}</span>
      </div>
    </figure>
  );
}
