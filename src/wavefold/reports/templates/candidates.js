"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!data.rows.length) return;
  const columns = data.columns, shown = columns.flatMap((column, at) => (column.shown ? [at] : []));
  const at = Object.fromEntries(columns.map((column, number) => [column.name, number]));
  const key = `wavefold-candidates-${data.key}`;
  const find = (id) => document.getElementById(id);
  const body = find("list").tBodies[0], filters = find("filters"), one = find("one");
  let verdicts = {}, order = data.rows.map((_, row) => row), sorted = -1, rising = false, chosen = 0, seen = [];
  try { verdicts = JSON.parse(localStorage.getItem(key)) || {}; } catch { /* kept in the page only */ }
  const make = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text, ...more });
  const written = (value, name) => {
    if (value === null) return "–";
    if (typeof value !== "number") return String(value);
    if (name === "frequency_mhz") return value.toFixed(6);
    return String(Number.isInteger(value) ? value : Number(value.toPrecision(4)));
  };
  const word = { 1: "signal", 0: "not a signal" };
  const verdict = (row) => verdicts[data.rows[row][at.id]];
  const number = (name) => (filters.elements[name].value === "" ? null : Number(filters.elements[name].value));

  const passes = (row) => {
    const values = data.rows[row], given = verdict(row);
    const snr = number("snr"), drift = number("drift"), low = number("low"), high = number("high");
    const text = filters.elements.text.value.toLowerCase(), wanted = filters.elements.verdict.value;
    return (snr === null || values[at.snr] >= snr) && (drift === null || Math.abs(values[at.drift_hz_s]) <= drift)
      && (low === null || values[at.frequency_mhz] >= low) && (high === null || values[at.frequency_mhz] <= high)
      && (!text || values.some((value) => String(value).toLowerCase().includes(text)))
      && (!wanted || (wanted === "none" ? given === undefined : String(given) === wanted));
  };

  const list = () => {
    seen = order.filter(passes);
    body.replaceChildren(...seen.map((row) => {
      const line = make("tr", "", { tabIndex: -1 });
      line.dataset.row = row;
      line.setAttribute("aria-selected", String(row === chosen));
      line.append(...shown.map((column) => {
        const value = data.rows[row][column];
        return make("td", written(value, columns[column].name), { className: typeof value === "string" ? "" : "number" });
      }), make("td", word[verdict(row)] || ""));
      return line;
    }));
    const given = data.rows.filter((_, row) => verdict(row) !== undefined).length;
    find("count").textContent = `${seen.length} of ${data.rows.length} listed, ${given} with a verdict`;
  };

  const show = () => {
    const values = data.rows[chosen], picture = data.pictures[values[at.id]];
    const parts = [];
    if (picture) {
      const alt = `Six panels of frequency and time around ${written(values[at.frequency_mhz], "frequency_mhz")} MHz`;
      parts.push(make("img", "", { src: `data:image/jpeg;base64,${picture}`, alt }));
    }
    const buttons = make("p", "", { className: "buttons" });
    for (const [value, text] of [[1, "Signal (s)"], [0, "Not a signal (n)"]]) {
      const button = make("button", text, { type: "button", onclick: () => judge(value) });
      button.setAttribute("aria-pressed", String(verdict(chosen) === value));
      buttons.append(button);
    }
    const facts = make("dl", "", { className: "facts" });
    columns.forEach((column, place) => {
      const pair = document.createElement("div");
      pair.append(make("dt", column.title), make("dd", written(values[place], column.name)));
      facts.append(pair);
    });
    one.replaceChildren(buttons, ...parts, facts);
  };

  const choose = (row) => {
    chosen = row;
    for (const line of body.rows) {
      const mine = Number(line.dataset.row) === row;
      line.setAttribute("aria-selected", String(mine));
      if (mine) line.scrollIntoView({ block: "nearest" });
    }
    show();
  };

  const keep = () => { try { localStorage.setItem(key, JSON.stringify(verdicts)); } catch { /* kept in the page only */ } };
  const judge = (value) => {
    const id = data.rows[chosen][at.id];
    if (value === null || verdicts[id] === value) delete verdicts[id];
    else verdicts[id] = value;
    keep(); list(); show();
  };
  const step = (by) => {
    const place = seen.indexOf(chosen) + by;
    if (place >= 0 && place < seen.length) choose(seen[place]);
  };

  const head = make("tr", "");
  for (const column of [...shown, "verdict"]) {
    const cell = make("th", "", { scope: "col" });
    cell.append(make("button", column === "verdict" ? "verdict" : columns[column].title, { type: "button", onclick: () => {
      rising = sorted === column ? !rising : false;
      sorted = column;
      const value = (row) => (column === "verdict" ? verdict(row) ?? null : data.rows[row][column]);
      order.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        return (x < y ? -1 : x > y ? 1 : 0) * (rising ? 1 : -1);
      });
      for (const other of head.cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
      list();
    } }));
    head.append(cell);
  }
  find("list").tHead.append(head);

  body.addEventListener("click", (event) => {
    const line = event.target.closest("tr");
    if (line) choose(Number(line.dataset.row));
  });
  filters.addEventListener("input", list);
  filters.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) return;
    const act = { j: () => step(1), k: () => step(-1), s: () => judge(1), n: () => judge(0), u: () => judge(null) }[event.key];
    if (act) { event.preventDefault(); act(); }
  });

  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  find("save").addEventListener("click", () => {
    const kept = data.rows.flatMap((_, row) => (verdict(row) === undefined ? [] : [{ row, ...data.labels[row] }]));
    const names = ["id", "target", ...Object.keys(data.labels[0]).filter((name) => name !== "id")];
    const lines = kept.map(({ row, ...label }) => names.map((name) => quoted(name === "target" ? String(verdict(row)) : label[name])).join(","));
    const link = make("a", "", { download: data.file, href: URL.createObjectURL(new Blob([[names.join(","), ...lines, ""].join("\n")], { type: "text/csv" })) });
    link.click();
    URL.revokeObjectURL(link.href);
  });
  find("load").addEventListener("change", async (event) => {
    const [first, ...lines] = (await event.target.files[0].text()).trim().split(/\r?\n/).map((line) => line.split(","));
    const [id, target] = [first.indexOf("id"), first.indexOf("target")];
    const known = new Set(data.rows.map((values) => values[at.id]));
    if (id < 0 || target < 0) { find("count").textContent = "This CSV has no columns id and target"; return; }
    for (const line of lines) if (known.has(line[id])) verdicts[line[id]] = Number(line[target]);
    keep(); list(); show();
  });
  list();
  show();
})();
