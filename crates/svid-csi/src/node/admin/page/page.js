"use strict";
(() => {
  const began = performance.now();
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("data").textContent);
  /** The time on the node: what is in the data, and the time since it was opened. */
  const now = () => data.made + Math.floor((performance.now() - began) / 1000);

  /** An element. Strings become text, whatever is in them. */
  const make = (name, className, ...children) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    element.append(...children);
    return element;
  };

  /** A duration in its two largest units, as `svid-csi status` writes it. */
  const short = (seconds) => {
    const [d, h, m, s] = [seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60].map(Math.floor);
    return d ? `${d}d${h}h` : h ? `${h}h${m}m` : m ? `${m}m` : `${s}s`;
  };
  const time = (seconds) => {
    const date = new Date(seconds * 1000);
    return Number.isNaN(date.valueOf()) ? `${seconds} s since 1970` : date.toISOString().replace(".000", "");
  };
  const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

  const drawHead = () => {
    document.title = `${data.node}: svid-csi`;
    find("node").textContent = data.node;
    const busy = data.busy ? ` (${data.busy} of them busy, not shown)` : "";
    find("driver").textContent = `Driver ${data.version}, ${count(data.volumes.length + data.busy, "volume")}${busy}`;
    find("made").textContent = time(data.made);
    const sources = data.sources.map(({ name, trouble }) =>
      make("li", trouble ? "mark fault" : "mark good", `${name}: ${trouble ?? "ok"}`));
    find("sources").append(...sources.length ? sources : [make("li", "", "No source that depends on a connection.")]);
    find("names").append(...data.names.map(({ name, registration }) =>
      make("li", registration === "not registered" ? "mark fault" : "mark good", `${name}: ${registration}`)));
  };

  const drawHorizon = () => {
    if (!data.horizon) {
      find("horizon").textContent = "The driver has given no pod an identity.";
      return;
    }
    const { first, half } = data.horizon;
    const begins = first ? `The first pod would be without an identity in ${short(first)}` : "Pods are without a valid identity now";
    find("horizon").textContent = `${begins}, half of them ${half ? `in ${short(half)}` : "too"}.`;
    const isReady = ({ state, end }) => end !== null && state !== "starting" && state !== "removing";
    const left = data.volumes.filter(isReady).map(({ end }) => Math.max(end - data.made, 0)).sort((a, b) => a - b);
    const last = left.at(-1);
    if (!last) return;
    const step = Math.max(1, Math.floor(left.length / 200));
    let path = "M0 32V0";
    for (let at = 0; at < left.length; at += step) {
      path += `H${(left[at] / last * 100).toFixed(2)}V${((at + step) / left.length * 32).toFixed(2)}`;
    }
    document.querySelector(".area").setAttribute("d", `${path}H100V32Z`);
    find("last").textContent = `in ${short(last)}`;
    find("curve").hidden = false;
  };

  const drawFindings = () => {
    if (!data.findings) {
      find("findings").append("This page is the driver's own account. Add what is wrong around it: ", make("code", "", "svid-csi page"), " or ", make("code", "", "svid-csi doctor"), ".");
      return;
    }
    for (const { id, severity, title, explanation, fix, found, more } of data.findings) {
      const list = found.map(({ about, cause }) => make("li", "", make("strong", "", about), `: ${cause}`));
      if (more) list.push(make("li", "", `and ${more} more`));
      find("findings").append(make("details", "",
        make("summary", "", make("span", `mark ${severity}`, severity), " ", make("h3", "", title), ` ${found[0].about}${found.length + more > 1 ? `, and ${found.length + more - 1} more` : ""}`),
        make("p", "", explanation), make("ul", "", ...list),
        make("p", "", "Fix: ", make("code", "", fix)), make("small", "", `svid-csi doctor --explain ${id}`)));
    }
    if (!data.findings.length) find("findings").append(make("p", "mark good", "Nothing is wrong."));
    if (data.not_checked.length) {
      const list = data.not_checked.map(({ what, why }) => make("li", "", `${what}: ${why}`));
      find("findings").append(make("details", "", make("summary", "", `Not checked (${list.length})`), make("ul", "", ...list)));
    }
  };

  /** Texts that depend on the time. */
  const ages = [];
  const keep = (update) => { ages.push(update); update(); };

  const drawRecent = () => {
    const rows = data.recent.map(({ at, about, what, why, times }) => {
      const when = make("td", "");
      when.title = time(at);
      keep(() => { when.textContent = `${short(Math.max(now() - at, 0))} ago`; });
      const mark = what === "issued" ? "mark good" : "mark fault";
      return make("tr", "", when, make("td", "", about),
        make("td", "", make("span", mark, what), times > 1 ? ` (${times} times)` : ""), make("td", "", why ?? ""));
    });
    document.querySelector("#recent tbody").append(...rows);
    if (!rows.length) find("recent").replaceWith(make("p", "", "None since the driver started."));
  };

  const lifetime = ({ begin, end, renewal }) => {
    if (end === null) return make("td", "", "no certificate");
    const [bar, text] = [make("span", "bar"), make("span", "")];
    const percent = (at) => `${Math.min(Math.max((at - begin) / Math.max(end - begin, 1) * 100, 0), 100).toFixed(1)}%`;
    bar.style.setProperty("--due", percent(renewal));
    keep(() => {
      const at = now();
      bar.style.setProperty("--spent", percent(at));
      const due = renewal > at ? `, renewal in ${short(renewal - at)}` : ", renewal is due";
      const isOver = data.made < end ? "ended after this page was made" : "ended";
      text.textContent = end > at ? `ends in ${short(end - at)}${due}` : `${isOver} (${short(at - end)} ago)`;
    });
    const cell = make("td", "", bar, text);
    cell.title = `ends ${time(end)}, renewal about ${time(renewal)}`;
    return cell;
  };

  const row = (volume) => {
    const { id, pod, state, why, plan, connections, spiffe_id: spiffeId, serial } = volume;
    const slash = pod ? pod.indexOf("/") + 1 : 0;
    const cells = [
      make("td", "", make("span", "namespace", pod ? pod.slice(0, slash) : "volume "), make("strong", "", pod ? pod.slice(slash) : id)),
      make("td", "", make("span", `mark ${state}`, state)),
      lifetime(volume),
      make("td", "", plan, ...connections === null ? [] : [make("small", "", count(connections, "connection"))]),
      make("td", "id", spiffeId ?? "no SPIFFE ID", ...serial ? [make("small", "", serial)] : []),
    ];
    if (why) cells.push(make("td", "why", why));
    for (const cell of cells) cell.setAttribute("role", "cell");
    const element = make("tr", state, ...cells);
    element.setAttribute("role", "row");
    return { volume, element, text: [pod ?? id, state, spiffeId ?? ""].join("\n").toLowerCase() };
  };

  const orders = {
    pod: (a, b) => (a.pod ?? a.id) < (b.pod ?? b.id) ? -1 : 1,
    expiry: (a, b) => (a.end ?? Infinity) - (b.end ?? Infinity) || orders.pod(a, b),
    state: (a, b) => data.states.indexOf(a.state) - data.states.indexOf(b.state) || orders.expiry(a, b),
  };

  const drawVolumes = () => {
    const rows = data.volumes.map(row);
    const body = document.querySelector("#volumes tbody");
    const wanted = new Set();
    const sort = () => {
      const order = orders[find("order").value];
      body.replaceChildren(...rows.sort((a, b) => order(a.volume, b.volume)).map(({ element }) => element));
    };
    const filter = () => {
      const text = find("filter").value.trim().toLowerCase();
      let shown = 0;
      for (const { volume, element, text: own } of rows) {
        element.hidden = !own.includes(text) || (wanted.size > 0 && !wanted.has(volume.state));
        shown += element.hidden ? 0 : 1;
      }
      find("shown").textContent = `${shown} of ${rows.length} shown`;
    };
    for (const state of data.states) {
      const number = rows.filter(({ volume }) => volume.state === state).length;
      if (!number) continue;
      const button = make("button", "", make("span", `mark ${state}`, `${state} ${number}`));
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => {
        if (!wanted.delete(state)) wanted.add(state);
        button.setAttribute("aria-pressed", String(wanted.has(state)));
        filter();
      });
      find("states").append(button);
    }
    find("filter").addEventListener("input", filter);
    find("order").addEventListener("change", sort);
    sort();
    filter();
  };

  drawHead();
  drawHorizon();
  drawFindings();
  drawRecent();
  drawVolumes();
  /** Only here the reader's clock counts: how old is this page? */
  keep(() => {
    const old = Math.floor(Date.now() / 1000) - data.made;
    find("age").textContent = old < 60 ? "just now" : `${short(old)} ago; the driver may have renewed since`;
  });
  find("page").hidden = false;
  setInterval(() => { if (!document.hidden) ages.forEach((update) => update()); }, 10000);
  // Reading a size waits for the layout.
  find("page").getBoundingClientRect();
  const took = Math.round(performance.measure("drawn", { start: began }).duration);
  find("drawn").textContent = `Made by svid-csi ${data.program}; drawn in ${took} ms.`;
})();
