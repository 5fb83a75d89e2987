"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const drop = byId("drop"), file = byId("file"), start = byId("start"), stop = byId("stop");
  const choice = byId("choice"), volumes = byId("volumes"), message = byId("message");
  let page = "";
  let ready = false, working = false;

  const say = (text) => { message.textContent = text; message.hidden = !text; };
  const show = (text, fraction) => {
    byId("working").hidden = false;
    byId("stage").textContent = text;
    if (fraction === null) byId("progress").removeAttribute("value");
    else byId("progress").value = fraction;
  };
  const update = () => {
    file.disabled = !page || working;
    start.disabled = !ready || working;
    choice.disabled = volumes.disabled = !ready || working;
  };
  const begin = () => { working = true; say(""); update(); };
  const end = () => {
    working = false;
    stop.hidden = true;
    byId("working").hidden = true;
    update();
  };
  const clear = () => {
    byId("results").hidden = true;
    byId("view").removeAttribute("src");
    byId("downloads").replaceChildren();
  };
  const option = (text, value) => { const o = document.createElement("option"); o.textContent = text; o.value = value; return o; };

  const describe = (volume) => {
    const mm = volume.spacing_mm ? `, ${volume.spacing_mm.map((v) => Number(v.toPrecision(3))).join(" x ")} mm` : "";
    const name = [volume.modality, volume.description].filter(Boolean).join(" ");
    return `${name ? `${name}: ` : ""}${volume.columns} x ${volume.rows} x ${volume.slices} voxels${mm}`;
  };

  const uploaded = (answer, name) => {
    volumes.replaceChildren(...answer.volumes.map((volume, n) => option(describe(volume), n)));
    byId("volumes-label").hidden = answer.volumes.length < 2;
    choice.replaceChildren(...answer.choices.map((text) => option(text, text)));
    // The name stays in the browser.
    const words = name.toLowerCase().split(/[^a-z0-9]+/);
    const named = answer.choices.find((text) => words.some((word) => word.startsWith(text.split(" to ")[0])));
    if (named) choice.value = named;
    byId("volume").textContent = answer.volumes.length === 1 ? describe(answer.volumes[0]) : `${answer.volumes.length} series`;
    byId("volume").hidden = false;
    ready = true;
  };

  const upload = (chosen) => {
    if (!page || working || !chosen) return;
    clear();
    ready = false;
    byId("volume").hidden = true;
    const most = Number(drop.dataset.mostMb);
    if (chosen.size > most * 1e6) { say(`The file is larger than ${most} MB.`); update(); return; }
    begin();
    const request = new XMLHttpRequest();
    request.open("PUT", `pages/${page}/upload`);
    request.upload.onprogress = (event) => show("receiving the scan", event.total ? event.loaded / event.total : null);
    request.upload.onload = () => show("reading the scan", null);
    request.onload = () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* the status tells */ }
      if (request.status === 200) uploaded(answer, chosen.name);
      else say(`The scan was refused: ${answer.error || `status ${request.status}`}.`);
      end();
    };
    request.onerror = () => { say("The scan was refused, or the server has stopped."); end(); };
    request.send(chosen);
  };

  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files.length > 1) { say("Drop one file: zip a DICOM series."); return; }
    upload(event.dataTransfer.files[0]);
  });
  file.addEventListener("change", () => { upload(file.files[0]); file.value = ""; });

  start.addEventListener("click", async () => {
    begin();
    clear();
    show("starting", null);
    stop.hidden = false;
    const asked = {
      choice: choice.value, volume: Number(volumes.value), three: byId("three").checked,
      uncertainty: byId("uncertainty").checked,
    };
    try {
      const answer = await fetch(`pages/${page}/translate`, { method: "POST", body: JSON.stringify(asked) });
      if (!answer.ok) { say(`${(await answer.json()).error}.`); end(); }
    } catch { say("The server has stopped."); end(); }
  });
  stop.addEventListener("click", () => { stop.hidden = true; fetch(`pages/${page}/stop`, { method: "POST" }); });

  const done = (event) => {
    end();
    const link = (name) => {
      const item = document.createElement("li"), anchor = document.createElement("a");
      anchor.href = `pages/${page}/results/${encodeURIComponent(name)}`;
      anchor.download = name;
      anchor.textContent = `Download ${name}`;
      item.append(anchor);
      return item;
    };
    byId("downloads").replaceChildren(...event.downloads.map(link));
    say(event.warning || (event.verdict === "ok" ? "" : `Quality verdict: ${event.verdict}. The reasons are below.`));
    const view = byId("view");
    view.onload = () => {
      const body = view.contentDocument && view.contentDocument.body;
      if (body) new ResizeObserver(() => { view.style.height = `${body.scrollHeight + 40}px`; }).observe(body);
    };
    view.src = `pages/${page}/results/view/report.html`;
    byId("results").hidden = false;
    byId("results").scrollIntoView({ block: "nearest" });
  };

  const events = new EventSource("events");
  events.onmessage = (message_) => {
    const event = JSON.parse(message_.data);
    if (event.kind === "opened") { page = event.page; update(); }
    else if (event.kind === "progress") show(event.stage, event.fraction);
    else if (event.kind === "failed") { end(); say(`${event.text}.`); }
    else if (event.kind === "done") done(event);
    document.body.dataset.last = event.kind;
  };
  events.onerror = () => {
    events.close();
    page = "";
    ready = false;
    end();
    say("The connection to the server has ended, and the scan was removed. Reload this page to begin again.");
  };
})();
