/** Figures as a language writes them. */

export const number = (value: number, language: string): string => new Intl.NumberFormat(language).format(value);

/** US dollars; a cent's fraction isn't rounded away. */
export const amount = (value: number, language: string): string =>
  new Intl.NumberFormat(language, {
    style: "currency",
    currency: "USD",
    currencyDisplay: "narrowSymbol",
    minimumFractionDigits: 2,
    maximumFractionDigits: value !== 0 && Math.abs(value) < 1 ? 6 : 2,
  }).format(value);

export const seconds = (milliseconds: number, language: string): string =>
  new Intl.NumberFormat(language, {
    style: "unit",
    unit: "second",
    unitDisplay: "short",
    maximumFractionDigits: milliseconds < 10_000 ? 2 : 0,
  }).format(milliseconds / 1000);
