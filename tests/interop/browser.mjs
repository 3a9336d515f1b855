// A headless Chromium whose only credential is one client certificate: a home folder of its own, the certificate in an
// NSS database, and the setting by which Chromium shows it to this one origin without asking. Nothing outside the folder
// is changed. `CHROMIUM` names another program than `chromium`.
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { chromium } from "playwright-core";

const run = (program, ...args) => execFileSync(program, args, { stdio: ["ignore", "pipe", "inherit"] });

/** A browser of this party of a `sallyport dev` world; `home` is an empty folder. */
export async function browser({ dir, url, party, home, viewport }) {
  const nss = `${home}/.pki/nssdb`;
  mkdirSync(nss, { recursive: true });
  const own = (file) => `${dir}/clients/${party}/${file}`;
  run("certutil", "-N", "-d", `sql:${nss}`, "--empty-password");
  run("certutil", "-A", "-d", `sql:${nss}`, "-n", "world", "-t", "C,,", "-i", `${dir}/ca.pem`);
  run("openssl", "pkcs12", "-export", "-inkey", own("key.pem"), "-in", own("cert.pem"), "-out", `${home}/own.p12`, "-passout", "pass:");
  run("pk12util", "-i", `${home}/own.p12`, "-d", `sql:${nss}`, "-W", "");
  const profile = `${home}/profile`;
  mkdirSync(`${profile}/Default`, { recursive: true });
  const shown = { [`${url},*`]: { last_modified: "0", setting: { filters: [{}] } } };
  const preferences = { profile: { content_settings: { exceptions: { auto_select_certificate: shown } } } };
  writeFileSync(`${profile}/Default/Preferences`, JSON.stringify(preferences));
  return chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", // playwright-core looks for none itself
    env: { ...process.env, HOME: home, XDG_DATA_HOME: `${home}/.local/share` },
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
    viewport,
    locale: "en-GB",
  });
}
