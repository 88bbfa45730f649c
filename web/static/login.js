// Signs a browser in: the key buys a ticket, the ticket opens a session, and the page forgets both.

const form = document.getElementById("form");
const answer = document.getElementById("answer");

function say(text, isBad = false) {
  answer.textContent = text;
  answer.className = isBad ? "bad" : "quiet";
}

async function post(path, options) {
  const response = await fetch(path, { method: "POST", ...options });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.detail ?? `the server answers ${response.status}`);
  return body;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const key = form.elements.key, button = form.querySelector("button");
  button.disabled = true;
  say("signing in …");
  try {
    const { ticket } = await post("/api/session/ticket", { headers: { Authorization: `Bearer ${key.value.trim()}` } });
    await post("/api/session", { headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ticket }) });
    location.replace("/");
  } catch (error) {
    say(error instanceof TypeError ? "the server cannot be reached; try again" : error.message, true);
    key.select();
  } finally {
    button.disabled = false;
  }
});

// Whoever need not sign in is told so; the form stays, since a key may allow more.
fetch("/api/session").then(async (response) => {
  if (!response.ok) return;
  const { name, csrf_token } = await response.json();
  say(csrf_token ? `You are signed in as ${name}.` : "This server asks nobody on this machine for a key: the dashboard is open.");
}).catch(() => {});
