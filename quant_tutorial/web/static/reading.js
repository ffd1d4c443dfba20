// Starts what reader/page.js offers. Browsers load modules from a server only: a page that was
// opened from a file says so, and keeps what it has without them.

if (location.protocol === "file:") {
  const article = document.querySelector("article.bd-article");
  if (article?.querySelector("figure.explorer, details.prediction")) {
    const note = document.createElement("p");
    note.className = "file-note";
    const command = document.createElement("code");
    command.textContent = "make read";
    note.append(
      "This page was opened from a file, so its explorers step through prepared pictures and it " +
        "asks you no questions; ",
      command,
      " in the course's folder serves the complete edition.",
    );
    article.querySelector("h1")?.after(note);
  }
} else {
  import(new URL("reader/page.js", document.currentScript.src).href);
}
