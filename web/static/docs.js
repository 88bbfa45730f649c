// The interactive documentation: Swagger UI over this server's own OpenAPI document, nothing from elsewhere.
"use strict";

// A write of a signed-in browser carries the token of its session; without a session there is none.
const session = fetch("/api/session").then((answer) => (answer.ok ? answer.json() : {})).catch(() => ({}));

async function withToken(request) {
  const { csrf_token } = await session;
  if (csrf_token && request.method !== "GET" && !request.headers.Authorization) request.headers["X-CSRF-Token"] = csrf_token;
  return request;
}

// The type of a problem is /docs#problem-CODE: who follows it reads here what such an answer is.
function explainProblem() {
  const code = /^#problem-([a-z_]+)$/.exec(location.hash)?.[1];
  const place = document.getElementById("problem");
  place.hidden = !code;
  if (code) place.querySelector("code").textContent = code;
}

explainProblem();
window.addEventListener("hashchange", explainProblem);

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: !location.hash.startsWith("#problem-"),
  validatorUrl: null,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  syntaxHighlight: { theme: "nord" },
  requestInterceptor: withToken,
});
