// Signs a browser in: the key buys a ticket, the ticket opens a session, and the page forgets both.

const form = document.getElementById("form");
const answer = document.getElementById("answer");

async function post(path, options) {
  const response = await fetch(path, { method: "POST", ...options });
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail);
  return body;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const key = form.elements.key;
  answer.textContent = "…";
  try {
    const { ticket } = await post("/api/session/ticket", { headers: { Authorization: `Bearer ${key.value.trim()}` } });
    await post("/api/session", { headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ticket }) });
    location.replace("/");
  } catch (error) {
    answer.textContent = error.message;
    key.select();
  }
});
