"use strict";
// Shows the items: everything that models or authors wrote goes in by textContent.
(() => {
  const PAGE = 50;
  const WORST = { error: 0, failed: 1, passed: 2 };
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const body = at("table").tBodies[0];
  data.items.forEach((item, place) => { item.number = place + 1; });
  let found = [];
  let page = 0;

  const make = (tag, words, kind) => {
    const made = document.createElement(tag);
    if (words !== undefined) made.textContent = words;
    if (kind) made.className = kind;
    return made;
  };
  const outcomes = (item) => item.answers.map((answer) => (answer ? answer.outcome : "error"));
  const rank = (item) => Math.min(...outcomes(item).map((word) => WORST[word]));
  const written = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const brief = (item) => Object.values(item.item).map(written).find((text) => text && text.length > 12) ?? written(item.item);
  const haystack = (item) => (item.words ??= JSON.stringify([item.key, item.item, item.answers]).toLowerCase());
  const shows = {
    "": () => true,
    error: (item) => outcomes(item).includes("error"),
    failed: (item) => outcomes(item).includes("failed"),
    passed: (item) => outcomes(item).every((word) => word === "passed"),
    split: (item) => new Set(outcomes(item)).size > 1,
  };

  const grades = (answer) => {
    const list = make("div", undefined, "grades");
    for (const name of data.graders) {
      const grade = answer.grades[name];
      if (!grade) continue;
      const [kind, word] = grade.error ? ["error", "error"] : grade.passed ? ["pass", "✓"] : ["fail", "✗"];
      const told = make("span", `${name} `);
      told.append(make("span", grade.error ? word : `${word} ${+grade.score.toFixed(3)}`, kind));
      list.append(told);
    }
    return list;
  };
  const short = (answer, place) => {
    const cell = make("td");
    cell.dataset.run = data.runs[place]; // on narrow screens, where columns have no heads
    if (!answer) {
      cell.append(make("span", "no answer", "error"));
      return cell;
    }
    cell.append(make("span", answer.error ?? answer.output, answer.error ? "brief error" : "brief"), grades(answer));
    return cell;
  };
  const block = (cell, title, text) => cell.append(make("h3", title), make("pre", text));
  const facts = (answer) =>
    [
      answer.latency_ms === null ? "" : `${Math.round(answer.latency_ms)} ms`,
      `${answer.prompt_tokens} tokens in, ${answer.completion_tokens} out`,
      answer.cost_usd === null ? "" : `USD ${answer.cost_usd}`,
    ].filter(Boolean).join(", ");
  const whole = (item) => {
    const row = make("tr", undefined, "whole");
    const cell = make("td");
    cell.colSpan = 2 + data.runs.length;
    block(cell, `Item ${item.number}`, JSON.stringify(item.item, null, 2));
    item.answers.forEach((answer, place) => {
      if (!answer) return;
      block(cell, `${data.runs[place]} (${facts(answer)})`, answer.error ?? answer.output);
      const details = Object.entries(answer.grades).filter(([, grade]) => grade.error || grade.detail);
      if (details.length) block(cell, `Graders of ${data.runs[place]}`, JSON.stringify(Object.fromEntries(details), null, 2));
    });
    row.append(cell);
    return row;
  };
  const opener = (item, row) => {
    const button = make("button", "+", "open");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-label", `details of item ${item.number}`);
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") === "true";
      if (open) row.nextSibling.remove();
      else row.after(whole(item));
      button.textContent = open ? "+" : "−";
      button.setAttribute("aria-expanded", String(!open));
    });
    return button;
  };
  const line = (item) => {
    const row = make("tr");
    const first = make("td");
    first.append(opener(item, row));
    const told = make("td");
    told.append(make("span", brief(item), "brief"));
    row.append(first, told, ...item.answers.map(short));
    return row;
  };
  const show = () => {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    body.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(line));
    at("count").textContent = `${found.length.toLocaleString("en")} of ${data.items.length.toLocaleString("en")} items`;
    at("page").textContent = `page ${page + 1} of ${pages}`;
    at("before").disabled = page === 0;
    at("after").disabled = page === pages - 1;
    at("pages").hidden = pages === 1;
  };
  const find = () => {
    const wanted = at("text").value.trim().toLowerCase();
    found = data.items.filter((item) => shows[at("outcome").value](item) && (!wanted || haystack(item).includes(wanted)));
    if (at("order").value === "worst") found.sort((one, other) => rank(one) - rank(other));
    page = 0;
    show();
  };
  let waiting = 0;
  at("text").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(find, 150); // ms: a word is typed, not a letter
  });
  at("outcome").addEventListener("change", find);
  at("order").addEventListener("change", find);
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("before").addEventListener("click", () => { page -= 1; show(); });
  at("after").addEventListener("click", () => { page += 1; show(); });
  at("filters").hidden = at("table").hidden = false;
  find();
})();
