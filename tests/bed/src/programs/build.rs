//! Builds the missing programs, one after the other, with progress on stderr.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{GO_MOD, GO_SUM, Recipe, prerequisites, version};
use crate::error::{Doing, Error, tail};
use crate::proc::LOOK;

/// Flags of every build. A change of the flags changes the cache directory.
pub(super) const FLAGS: [&str; 4] = ["-v", "-mod=readonly", "-trimpath", "-buildvcs=false"];
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Builds the programs that `missing` lists. Only one process builds at a time. Another process waits, and then finds
/// no missing program.
pub(super) fn build<'a, Missing: Iterator<Item = &'a Recipe>>(
    cache: &Path,
    bin: &Path,
    missing: impl Fn() -> Missing,
) -> Result<(), Error> {
    let module = cache.join("module");
    for directory in [bin, &module] {
        fs::create_dir_all(directory).doing(|| format!("making {}", directory.display()))?;
    }
    let lock =
        File::create(cache.join("lock")).doing(|| format!("making {}", cache.join("lock").display()))?;
    if lock.try_lock().is_err() {
        eprintln!("bed: waiting for another process that builds the programs of the cluster");
        lock.lock().doing(|| "waiting for the other build".into())?;
    }
    let recipes: Vec<&Recipe> = missing().collect();
    if recipes.is_empty() {
        return Ok(());
    }
    prerequisites::check(recipes.iter().any(|recipe| recipe.cgo))?;
    for (name, text) in [("go.mod", GO_MOD), ("go.sum", GO_SUM)] {
        let path = module.join(name);
        if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            fs::write(&path, text).doing(|| format!("writing {}", path.display()))?;
        }
    }
    let (count, began) = (recipes.len(), Instant::now());
    eprintln!("bed: building {count} programs into {} (all: about 6 minutes on two cores)", bin.display());
    for (at, recipe) in recipes.iter().enumerate() {
        let place = format!("[{}/{count}] {}", at + 1, recipe.name);
        let staged = cache.join(format!("{}.new", recipe.name));
        one(recipe, &module, &staged, &cache.join("build.log"), &place, began)?;
        fs::rename(&staged, bin.join(recipe.name)).doing(|| format!("putting {} in place", recipe.name))?;
    }
    eprintln!("bed: built {count} programs in {} s", began.elapsed().as_secs());
    Ok(())
}

fn one(
    recipe: &Recipe,
    module: &Path,
    staged: &Path,
    log: &Path,
    place: &str,
    began: Instant,
) -> Result<(), Error> {
    let output = File::create(log).doing(|| format!("making {}", log.display()))?;
    let errors = output.try_clone().doing(|| format!("opening {}", log.display()))?;
    // With setpriv, the end of `bed` also ends the build.
    let mut go = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "go", "build"])
        .args(FLAGS)
        .args(if recipe.cgo { &["-tags", "seccomp"][..] } else { &[] })
        .args(["-ldflags", &link_flags(recipe), "-o"])
        .args([staged.as_os_str(), recipe.package.as_ref()])
        .current_dir(module)
        .env("CGO_ENABLED", if recipe.cgo { "1" } else { "0" })
        .env("GOWORK", "off")
        .env_remove("GOFLAGS")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .doing(|| "starting go".into())?;
    eprintln!("bed: {place} ({} s)", began.elapsed().as_secs());
    let mut said = Instant::now();
    loop {
        if let Some(status) = go.try_wait().doing(|| "waiting for go".into())? {
            if status.success() {
                return Ok(());
            }
            let program = format!("go build {}", recipe.package);
            return Err(Error::Program { program, how: status.to_string(), said: tail(log) });
        }
        if said.elapsed() >= HEARTBEAT {
            // With -v, go prints each package that it compiles, and each download.
            let text = fs::read_to_string(log).unwrap_or_default();
            let (count, last) = (text.lines().count(), text.lines().last().unwrap_or("reading sources"));
            eprintln!("bed: {place} ({} s, {count} packages: {last})", began.elapsed().as_secs());
            said = Instant::now();
        }
        std::thread::sleep(LOOK * 10);
    }
}

/// Strips the program, and links the version: otherwise the API server reports v0.0.0.
fn link_flags(recipe: &Recipe) -> String {
    let mut flags = String::from("-s -w");
    let Some(version) = version(recipe.versioned_by) else { return flags };
    for variable in recipe.variables {
        // The convention of runc is a version without the v.
        let value = if recipe.cgo { version.trim_start_matches('v') } else { version };
        flags = format!("{flags} -X {variable}={value}");
        if let Some(package) = variable.strip_suffix(".gitVersion") {
            let mut numbers = version.trim_start_matches('v').split('.');
            let (major, minor) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
            for (name, value) in [("gitMajor", major), ("gitMinor", minor), ("gitTreeState", "clean")] {
                flags = format!("{flags} -X {package}.{name}={value}");
            }
        }
    }
    flags
}
