// Amounts, numbers and moments as the reader writes them. Without a script they stand there as they are.
"use strict";
try {
  const locale = document.documentElement.dataset.locale || undefined;
  const whole = new Intl.NumberFormat(locale);
  const digits = Array.from("0123456789", (digit) => whole.format(Number(digit)));
  const mark = whole.formatToParts(1.5).find((part) => part.type === "decimal").value;
  for (const element of document.querySelectorAll("data")) {
    const [, sign, integer, cents] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(element.value);
    const behind = cents ? mark + Array.from(cents, (digit) => digits[digit]).join("") : "";
    element.textContent = sign + whole.format(BigInt(integer)) + behind;
  }
  // The clock is that of the machine which wrote the page: nothing is converted.
  const clock = { hour: "2-digit", minute: "2-digit", timeZone: "UTC" };
  const day = { year: "numeric", month: "2-digit", day: "2-digit" };
  for (const element of document.querySelectorAll("time")) {
    const shown = element.classList.contains("clock") ? clock : { ...day, ...clock };
    element.textContent = new Intl.DateTimeFormat(locale, shown).format(new Date(`${element.dateTime}Z`));
  }
} catch {
  // A locale that the browser doesn't know leaves all as it is.
}
