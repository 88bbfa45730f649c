// Which account the page shows. The address says it, so that a reload, a link and the way back keep it.
// Nothing here touches the page.

// The account that an address asks for, "" for none.
export const wantedIn = (address) => new URL(address).searchParams.get("account") ?? "";

// The account to show: the wanted one if the run has it, else the default one, else whichever there is.
export function chosenOf(names, wanted, standard) {
  return [wanted, standard].find((name) => names.includes(name)) ?? names[0] ?? "";
}

// The same page with another account.
export function addressWith(address, account) {
  const changed = new URL(address);
  changed.searchParams.set("account", account);
  return changed.href;
}

// The lists, such as "orders", that an address wants to see for all accounts.
export const widenedIn = (address) => new Set(new URL(address).searchParams.getAll("all"));

// The same page with a list for all accounts, or for the chosen one again.
export function addressWidened(address, list, isWide) {
  const changed = new URL(address);
  const others = changed.searchParams.getAll("all").filter((name) => name !== list);
  changed.searchParams.delete("all");
  for (const name of isWide ? [...others, list] : others) changed.searchParams.append("all", name);
  return changed.href;
}
