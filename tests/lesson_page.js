// What the tests ask of JupyterLab's page; lesson_page.py loads it into every page as `quant`.
window.quant = {
  panel: null, // the notebook
  unanswered: new Set(), // messages from controls that the kernel is at work on
  complaints: [], // what the kernel complains of; JupyterLab writes it to a log that nobody has open

  // Closes what is open, without a question, and opens another notebook.
  async replaceBy(path) {
    const { shell, commands } = window.jupyterapp;
    [...shell.widgets("main")].forEach((widget) => widget.dispose());
    this.unanswered.clear();
    this.pictures.clear();
    this.complaints = [];
    await commands.execute("docmanager:open", { path });
  },

  // Waits until the notebook's kernel is connected: before, a command is lost without a word.
  async open(path) {
    const app = window.jupyterapp;
    await app.restored;
    const find = () => [...app.shell.widgets("main")].find((w) => w.context?.path === path);
    while (!find()) await new Promise((resolve) => setTimeout(resolve, 50));
    const panel = (this.panel = find());
    await panel.context.ready;
    await panel.sessionContext.ready;
    await panel.sessionContext.session.kernel.info;
    app.shell.activateById(panel.id);
    panel.sessionContext.session.kernel.anyMessage.connect((_, { msg, direction }) => {
      const { header, parent_header: parent, content } = msg;
      if (direction === "send" && header.msg_type === "comm_msg") {
        this.unanswered.add(header.msg_id);
      }
      if (direction === "recv" && content.execution_state === "idle") {
        this.unanswered.delete(parent.msg_id);
      }
      if (header.msg_type === "error") this.complaints.push(content.traceback.join("\n"));
      if (content.name === "stderr") this.complaints.push(content.text);
    });
  },

  runAll: () => window.jupyterapp.commands.execute("notebook:run-all-cells"),

  async runCell(index) {
    quant.panel.content.deselectAll();
    quant.panel.content.activeCellIndex = index;
    await window.jupyterapp.commands.execute("notebook:run-cell");
  },

  cells: () => quant.panel.content.widgets.map((cell) => cell.model.toJSON()),

  scrollTo: (index) => quant.panel.content.scrollToItem(index, "start"),

  // Waits until all that the controls have sent is answered, and for three short whiles they have
  // sent nothing more: one that is moved again before the answer keeps its newest value back until
  // then. It waits for no frames: Chromium would draw sixty in a second, and nothing in them.
  async answered() {
    for (let quiet = 0; quiet < 3; quiet = this.unanswered.size ? 0 : quiet + 1) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  },

  // An explorer's picture, and the sentence in the view beneath it.
  parts(root) {
    const views = [...root.querySelectorAll(".widget-html")];
    const at = views.findIndex((view) => view.querySelector("img"));
    return { image: views[at]?.querySelector("img"), text: views[at + 1]?.textContent };
  },

  // A slow result begins with an estimate, or with a sentence that breaks off.
  isComplete: (text) => Boolean(text) && !/\bestimated\b|…$/.test(text),

  pictures: new Map(), // numbers instead of pictures, which would take long to send

  numbered(source) {
    if (!this.pictures.has(source)) this.pictures.set(source, this.pictures.size);
    return this.pictures.get(source);
  },

  // Picture and sentence; null while they do not belong together or the result is not complete.
  shown(root) {
    const error = root.querySelector("[role=alert]");
    if (error) return { error: error.textContent };
    const { image, text } = this.parts(root);
    return this.isComplete(text) && text === image.alt
      ? { picture: this.numbered(image.src), text }
      : null;
  },

  // What an explorer shows after the kernel's answer, as soon as it is complete.
  async result(root) {
    for (let found;;) {
      await this.answered();
      if ((found = this.shown(root))) return found;
    }
  },

  // From now on notes for each key press how long it took until the complete read-out changed.
  startClock(root) {
    const times = (this.times = []);
    let pressed = 0, before;
    const press = (event) => {
      pressed = event.timeStamp;
      before = this.parts(root).text;
    };
    const changed = () => {
      const { text } = this.parts(root);
      if (!pressed || text === before || !this.isComplete(text)) return;
      times.push(performance.now() - pressed);
      pressed = 0;
    };
    const observer = new MutationObserver(changed);
    root.addEventListener("keydown", press, true);
    observer.observe(root, { childList: true, subtree: true, characterData: true });
    this.stopClock = () => {
      root.removeEventListener("keydown", press, true);
      observer.disconnect();
      return times;
    };
  },
};
