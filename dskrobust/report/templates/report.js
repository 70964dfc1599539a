// Tables are sorted, filtered and paged; a picture is enlarged beside its witness; what is selected
// in the plot is listed. Without this script the page shows the same, in its first order.
"use strict";
(() => {
  const PAGE = 12;
  const make = (tag, text, more = {}) => {
    const element = Object.assign(document.createElement(tag), more);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const number = text => {
    const plain = text.replaceAll(",", "").replace("−", "-").replace("∞", "Infinity").trim();
    return plain ? Number(plain) : NaN;  // of dates, or numbers with ids behind, it is none
  };
  const compare = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (!isNaN(x) && !isNaN(y)) return x < y ? -1 : x > y ? 1 : 0;
    return a.localeCompare(b, undefined, {numeric: true});
  };

  // A table of items: `cells(item)` gives texts, `show(items)` puts a page of them on the screen.
  const listing = ({table, heads, items, cells, show, place}) => {
    let order = items.slice(), kept = order, page = 0, by = -1, sign = 1;
    const filter = make("input", undefined, {type: "search", placeholder: "filter",
      ariaLabel: `Filter: ${table.caption ? table.caption.textContent : "table"}`});
    const said = make("span", "", {className: "quiet"});
    said.setAttribute("role", "status");
    const back = make("button", "‹", {type: "button", ariaLabel: "Previous page"});
    const on = make("button", "›", {type: "button", ariaLabel: "Next page"});
    const bar = make("div", undefined, {className: "tools"});
    bar.append(filter, back, on, said);
    place.before(bar);
    const redraw = () => {
      const word = filter.value.toLowerCase();
      kept = word ? order.filter(i => cells(i).join(" ").toLowerCase().includes(word)) : order;
      const pages = Math.max(1, Math.ceil(kept.length / PAGE));
      page = Math.min(page, pages - 1);
      show(kept.slice(page * PAGE, (page + 1) * PAGE));
      const first = kept.length ? page * PAGE + 1 : 0, last = Math.min(kept.length, (page + 1) * PAGE);
      said.textContent = `${first}–${last} of ${kept.length.toLocaleString("en")}`;
      back.disabled = page === 0;
      on.disabled = page >= pages - 1;
      back.hidden = on.hidden = pages === 1 && items.length <= PAGE;
    };
    const sort = () => {
      order = items.slice();
      if (by >= 0) order.sort((a, b) => sign * compare(cells(a)[by], cells(b)[by]));
      redraw();
    };
    heads.forEach((head, k) => {
      const button = make("button", head.textContent, {type: "button", className: "sort"});
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        sign = by === k ? -sign : 1;
        by = k;
        heads.forEach(other => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        sort();
      });
    });
    filter.addEventListener("input", () => { page = 0; redraw(); });
    back.addEventListener("click", () => { page -= 1; redraw(); });
    on.addEventListener("click", () => { page += 1; redraw(); });
    window.addEventListener("beforeprint", () => show(order));
    window.addEventListener("afterprint", redraw);
    redraw();
    return chosen => { items = chosen; page = 0; sort(); };
  };

  for (const table of document.querySelectorAll("table.listing")) {
    const bodies = [...table.tBodies];
    if (bodies.length < 2) continue;
    listing({
      table, heads: [...table.tHead.rows[0].cells], items: bodies,
      cells: body => body.kept ??= [...body.rows].flatMap(row => [...row.cells].map(c => c.textContent)),
      show: some => { bodies.forEach(b => b.remove()); table.append(...some); },
      place: table.closest(".wide"),
    });
  }

  const dialog = make("dialog");
  dialog.addEventListener("click", () => dialog.close());
  document.body.append(dialog);
  for (const pair of document.querySelectorAll(".pair")) {
    const open = () => {
      dialog.replaceChildren(pair.cloneNode(true), make("p", "Esc closes", {className: "quiet"}));
      dialog.showModal();
    };
    pair.tabIndex = 0;
    pair.setAttribute("role", "button");
    pair.addEventListener("click", open);
    pair.addEventListener("keydown", event => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); }
    });
  }

  // The plot's samples, once Bokeh has drawn it.
  const explore = view => {
    document.getElementById("explore").hidden = false;
    const named = name => view.get_model_by_name(name);
    const samples = named("samples"), bins = named("bins"), table = document.getElementById("selected");
    const names = [...table.tHead.rows[0].cells].map(head => head.textContent);
    const columns = names.map(name => Array.from(samples.data[name]));
    const text = value => typeof value === "number" && !Number.isInteger(value)
      ? (isFinite(value) ? value.toFixed(4) : "∞") : String(value);
    const every = columns[0].map((_, k) => k);
    const choose = listing({
      table, heads: [...table.tHead.rows[0].cells], items: every,
      cells: k => columns.map(column => text(column[k])),
      show: some => table.tBodies[0].replaceChildren(...some.map(k => {
        const line = make("tr");
        line.append(...columns.map(column => make("td", text(column[k]),
          {className: typeof column[k] === "number" ? "" : "text"})));
        return line;
      })),
      place: table.closest(".wide"),
    });
    samples.selected.change.connect(() => {
      const chosen = samples.selected.indices;
      choose(chosen.length ? [...chosen].sort((a, b) => a - b) : every);
    });
    bins.selected.change.connect(() => {
      const {left, right} = bins.data, R = samples.data.R;
      const chosen = bins.selected.indices;
      const inside = k => chosen.some(b => R[k] >= left[b] && (R[k] < right[b] || b === left.length - 1));
      samples.selected.indices = chosen.length ? every.filter(inside) : [];
    });
  };
  if (window.Bokeh && document.getElementById("selected")) {
    const wait = () => Bokeh.documents.length ? explore(Bokeh.documents[0]) : setTimeout(wait, 20);
    wait();
  }
})();
