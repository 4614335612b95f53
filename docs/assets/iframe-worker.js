// Search from a disk: browsers start no worker for file://, so that its script runs in a hidden frame instead.
"use strict";

if (location.protocol === "file:") {
  class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.appendChild(this.frame);

      const inside = this.frame.contentWindow;
      inside.IFrameWorker = FrameWorker; // by this the theme's worker knows that importScripts has to be waited for
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = (...sources) =>
        sources.reduce((earlier, source) => earlier.then(() => load(inside.document, source)), Promise.resolve());
      this.ready = load(inside.document, url);
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  }

  const load = (page, source) =>
    new Promise((resolve, reject) => {
      const script = page.createElement("script");
      script.src = source;
      script.onload = resolve;
      script.onerror = () => reject(new Error(`cannot load ${source}`));
      page.body.appendChild(script);
    });

  window.IFrameWorker = FrameWorker;
  window.Worker = FrameWorker;
}
