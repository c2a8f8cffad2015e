// Which variables hold secrets, by their names: their values are given by reference only, so that none is ever stored or shown. Pure.

const secretName = /(?:^|_)(?:API_?KEY|ACCESS_KEY|PRIVATE_KEY|SECRET|SECRET_KEY|TOKEN|PASSWORD|PASSPHRASE)$/i;

/** Whether a variable of that name may not have this value written out. An empty one is no secret: it takes a variable away. */
export function isPlainSecret(name: string, value: string): boolean {
  return value !== "" && secretName.test(name);
}

/** What to write instead, in the words of the configuration. */
export const secretReference =
  "{ from_env: VARIABLE }, { from_file: PATH } or { from_secret: { name: SECRET, key: KEY } }";
