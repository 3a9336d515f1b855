//! The command line: arguments, config, wiring, exit codes. 0: all is well; 1: something did not hold or was
//! refused; 2: it could not be tried.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use sallyport::audit::{Format, Kind};
use sallyport::bench::{Part, Size};
use sallyport::cli;
use sallyport::cli::audit::{Desk, Wanted};

/// An encrypted record-sharing gateway between GP systems and hospitals.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tell the whole story on real FHIR files, and check every line of it.
    Demo {
        /// A FHIR file (.json, .ndjson) or a folder of them, instead of the project's own small set.
        #[arg(long, value_name = "PATH")]
        records: Option<PathBuf>,
        /// One JSON object a line, for machines.
        #[arg(long)]
        json: bool,
    },
    /// Start a ready-made world with certificates, patients and agreements, and serve it until stopped.
    Dev {
        /// Its folder: a new one is made; one that holds a world is served again.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Address to listen on; port 0 takes a free one, and DIR/world.json says which.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Make a new gateway: root key, keyring, store, ledger. Never touches one that exists.
    Init {
        /// The gateway's config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// JSON array of statements: the first directory, agreements and facts.
        #[arg(long, value_name = "FILE")]
        statements: PathBuf,
    },
    /// Serve. Never makes anything: an empty folder is an error, not a fresh log.
    ///
    /// With `control` in the config and no `passphrase_file` it starts sealed: everybody gets 503 until `sallyport unseal`.
    Serve {
        /// The gateway's config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Unseal a gateway that started sealed, on its own machine: asks for what its root key is opened by.
    ///
    /// Needs `control` in the config, and the gateway's own user (or root). Where the root key is sealed to shares, each
    /// holder runs it once; the last share that is needed opens the gateway. Exit code 0: done, or the share was taken;
    /// 1: wrong or refused; 2: it could not be tried.
    Unseal {
        /// The gateway's config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Read it from this file descriptor, and not from the terminal.
        #[arg(long, value_name = "N")]
        fd: Option<u32>,
        /// Only say how the gateway stands.
        #[arg(long, conflicts_with = "forget")]
        status: bool,
        /// Forget the shares that were given so far.
        #[arg(long)]
        forget: bool,
        /// One JSON object, for machines.
        #[arg(long)]
        json: bool,
    },
    /// Seal a running gateway, on its own machine: no key stays in memory, and everybody gets 503.
    Seal {
        /// The gateway's config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON object, for machines.
        #[arg(long)]
        json: bool,
    },
    /// What the root key is opened by: a passphrase, or shares that several people hold.
    Keys {
        #[command(subcommand)]
        command: cli::seal::Keys,
    },
    /// Measure this machine: releases, tokens, appends, verification, rotation; nginx beside it.
    Bench {
        /// Distinct patients.
        #[arg(long, default_value_t = 2000)]
        patients: usize,
        /// Clients at once.
        #[arg(long, default_value_t = 64)]
        clients: usize,
        /// Patients' keys that a rotation rewraps.
        #[arg(long, default_value_t = 10_000)]
        keys: usize,
        /// Seconds for each figure.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Only these figures, and what they need; all of them where none is named.
        #[arg(long, value_delimiter = ',')]
        only: Vec<Part>,
        /// One JSON object a line, for machines.
        #[arg(long)]
        json: bool,
    },
    /// Put a gateway back from a backup, with nothing in its place: checked, opened once, and held until two
    /// administrators acknowledge it (`POST /admin/acts` with `backup.restore`).
    Restore {
        /// The backup's folder.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// The gateway's config; its `data` must not be there.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// A checkpoint that somebody kept: says what came after the backup. May be given more than once.
        #[arg(long, value_name = "FILE")]
        since: Vec<PathBuf>,
        /// One JSON object, for machines.
        #[arg(long)]
        json: bool,
    },
    /// Look after the store, with the gateway stopped.
    Store {
        #[command(subcommand)]
        command: Store,
    },
    /// Connect local software to a gateway: a sidecar on this machine's loopback that holds the keys.
    Connect {
        #[command(subcommand)]
        command: cli::connect::Connect,
    },
    /// Administer a running gateway, over mutual TLS.
    Admin(cli::admin::Arguments),
    /// Say what a practice shares with whom, from the practice's own machine, over mutual TLS.
    Practice(cli::practice::Arguments),
    /// Offer a client's own keys for registration, and prove that its private halves are there.
    Possession {
        #[command(subcommand)]
        command: cli::admin::Possession,
    },
    /// Print completions for a shell, to be sourced by it.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Prove, compare and read the rules, offline; ask a running gateway what they come to.
    Policy {
        #[command(subcommand)]
        command: Policy,
    },
    /// Read and check the signed access log, offline.
    Audit {
        #[command(subcommand)]
        command: Audit,
    },
}

#[derive(Subcommand)]
enum Store {
    /// Build the index anew from the segments: records, wrapped keys and facts come back, what was erased does not.
    Rebuild {
        /// The gateway's config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Subcommand)]
enum Policy {
    /// Say why a question would be answered as it would: which rule permits, which guards refuse and what each wants.
    ///
    /// Offline. The question is a JSON file with all its facts; docs/policy.md shows one. Exit code 0: all would be
    /// opened; 1: something would not; 2: it could not be tried.
    Explain {
        /// The question with its facts.
        #[arg(long, value_name = "FILE")]
        question: PathBuf,
        /// A folder with a proven set of one's own; without it the built-in set.
        #[arg(long, value_name = "DIR")]
        policy: Option<PathBuf>,
        /// One JSON object, for machines.
        #[arg(long)]
        json: bool,
    },
    /// Ask a running gateway who could open a patient's records now, and what changed.
    WhoCould(cli::who::Arguments),
    /// Prove that the guards imply every invariant, whatever local rules permit; or show what could happen.
    ///
    /// Needs cvc5: $CVC5, or `cvc5` on the path. Exit code 0: proven; 1: it does not hold, with an example; 2: it could
    /// not be decided, which is no proof.
    Check {
        /// A folder laid out like the project's `policy/`; without it the built-in set.
        dir: Option<PathBuf>,
        /// If all is proven, write DIR/proof.json, which a gateway needs to load the set.
        #[arg(long, requires = "dir")]
        write_proof: bool,
        /// One JSON object, for machines.
        #[arg(long)]
        json: bool,
    },
    /// What a change newly permits or refuses, each with an example; or that there is no difference.
    ///
    /// Exit code 0: no difference, proven; 1: there is one; 2: it could not be decided.
    Diff {
        /// The set as it was: a folder, or `built-in`.
        old: PathBuf,
        /// The set as it would be: a folder, or `built-in`.
        new: PathBuf,
        /// One JSON object, for machines.
        #[arg(long)]
        json: bool,
    },
    /// Every rule in its own words.
    Says {
        /// A folder laid out like the project's `policy/`; without it the built-in set.
        dir: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum Audit {
    /// Hash every entry again and hold the whole log against its signed checkpoint.
    Verify(cli::verify::Verify),
    /// Copy the log and its sealed bodies from a gateway, to be read offline; goes on where it stopped.
    Fetch {
        /// The gateway's URL.
        #[arg(long, value_name = "URL")]
        url: String,
        /// The folder of a registered auditor, with `cert.pem` and `key.pem`.
        #[arg(long, value_name = "DIR")]
        client: PathBuf,
        /// The CA that signed the gateway's certificate.
        #[arg(long, value_name = "FILE")]
        ca: PathBuf,
        /// The log's verification key: `log.vkey`, or the key itself.
        #[arg(long, value_name = "FILE|VKEY")]
        key: String,
        /// Where the copy stands.
        #[arg(long, value_name = "DIR")]
        into: PathBuf,
    },
    /// Find entries. What stands in sealed bodies is found where a disclosed key opens them.
    Search {
        #[command(flatten)]
        desk: Desk,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Answer a question that auditors ask.
    Report {
        /// Which.
        kind: Kind,
        /// For recall: the record, as `TYPE/ID` or by its own id.
        #[arg(long)]
        record: Option<String>,
        /// For unusual: a CSV file with `kind,organisation,id,nhs_number,surname,address,vip,deceased`.
        #[arg(long, value_name = "FILE")]
        register: Option<PathBuf>,
        #[command(flatten)]
        desk: Desk,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Write entries for other tools; every row names index and leaf hash.
    Export {
        /// Leaves as they are, JSON, CSV, FHIR AuditEvent, syslog or CEF.
        #[arg(long, default_value = "ndjson")]
        format: Format,
        #[command(flatten)]
        desk: Desk,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Hold receipts that hospitals and practices kept against the log.
    Reconcile {
        #[command(flatten)]
        desk: Desk,
        /// Files of receipts: JSON, one a line, or answers as they were kept.
        #[arg(required = true)]
        receipts: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = keys::harden_process() {
        eprintln!("sallyport: core dumps cannot be switched off ({error}); going on");
    }
    match arguments.command {
        Command::Demo { records, json } => cli::demo(records.as_deref(), json),
        Command::Dev { data, listen } => cli::dev(&data, listen),
        Command::Bench {
            patients,
            clients,
            keys,
            seconds,
            only,
            json,
        } => cli::bench(
            Size {
                patients,
                clients,
                keys,
                seconds,
                only: &only,
            },
            json,
        ),
        Command::Init { config, statements } => cli::init(&config, &statements),
        Command::Connect { command } => cli::connect::connect(&command),
        Command::Admin(arguments) => cli::admin::admin(arguments),
        Command::Practice(arguments) => cli::practice::practice(&arguments),
        Command::Possession { command } => cli::admin::possession(&command),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "sallyport", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Command::Serve { config } => cli::serve(&config),
        Command::Unseal {
            config,
            fd,
            status,
            forget,
            json,
        } => {
            let only = status.then_some("status").or(forget.then_some("forget"));
            cli::seal::unseal(&config, fd, only, json)
        }
        Command::Seal { config, json } => cli::seal::seal(&config, json),
        Command::Keys { command } => cli::seal::keys(command),
        Command::Restore {
            from,
            config,
            since,
            json,
        } => cli::restore(&from, &config, &since, json),
        Command::Store {
            command: Store::Rebuild { config },
        } => cli::store_rebuild(&config),
        Command::Policy { command } => match command {
            Policy::Check {
                dir,
                write_proof,
                json,
            } => cli::rules::check(dir.as_deref(), write_proof, json),
            Policy::Diff { old, new, json } => cli::rules::diff(&old, &new, json),
            Policy::Explain {
                question,
                policy,
                json,
            } => cli::explain::explained(&question, policy.as_deref(), json),
            Policy::WhoCould(arguments) => cli::who::who_could(&arguments),
            Policy::Says { dir } => cli::rules::says(dir.as_deref()),
        },
        Command::Audit { command } => audit(command),
    }
}

fn audit(command: Audit) -> ExitCode {
    match command {
        Audit::Verify(asked) => cli::verify::verify(&asked),
        Audit::Fetch {
            url,
            client,
            ca,
            key,
            into,
        } => cli::audit::fetch(&url, &client, &ca, &key, &into),
        Audit::Search { desk, wanted } => cli::audit::search(&desk, wanted),
        Audit::Report {
            kind,
            record,
            register,
            desk,
            wanted,
        } => {
            let about = (record.as_deref(), register.as_deref());
            cli::audit::report(&desk, kind, about, wanted)
        }
        Audit::Export {
            format,
            desk,
            wanted,
        } => cli::audit::export(&desk, format, wanted),
        Audit::Reconcile { desk, receipts } => cli::audit::reconcile(&desk, &receipts),
    }
}
