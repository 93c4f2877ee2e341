//! A sentence model of the BERT kind, such as all-MiniLM-L6-v2, from a directory as model hubs have it, run on this machine's
//! processors.
//!
//! Invariants: nothing is downloaded. The model's name is the hash of its weights, so that other weights are another embedder.
//! A text's vector does not depend on what it is embedded with: shorter ones are padded, and the padding is masked. A long
//! text counts up to the model's length in tokens. At most [`AT_ONCE`] batches run at once, of one tenant half of them, each off the async
//! threads and bounded in tokens, so that a question waits for a batch and not for a document. Who waits is served tenant by tenant.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use ltmc_model::TenantId;
use ltmc_model::recall::{EmbedderId, MAX_TEXT};
use ltmc_policy::Turns;
use ltmc_ports::recall::Purpose;
use ltmc_ports::{Embedder, Kind, StoreError};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokenizers::Tokenizer;

use crate::{Error, beginning, unit};

/// How many batches run at once: matrices are multiplied by all processors, the rest of a batch by one.
const AT_ONCE: usize = 2;
/// How many batches of a tenant's may wait for their turn.
const WAITING: usize = 1_024;
/// The most texts and the most tokens, padding among them, of a batch: what it takes of memory is bounded by them.
const BATCH_TEXTS: usize = 32;
const BATCH_TOKENS: usize = 1024;
/// The largest file of weights: what runs on processors in good time is far smaller.
const MAX_WEIGHTS: u64 = 2 << 30;
/// The largest of the other files.
const MAX_JSON: u64 = 64 << 20;
/// The longest that texts are taken in, in tokens, whatever a model allows: time grows with the square.
const MAX_TOKENS: usize = 512;
/// A token is seldom shorter.
const BYTES_A_TOKEN: usize = 3;

/// See the module.
pub(crate) struct MiniLm {
    id: EmbedderId,
    model: Arc<Model>,
    turns: Arc<Turns>,
}

impl MiniLm {
    /// Loads the model of a directory, and runs it once.
    pub(crate) async fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.to_owned();
        // bound: models run here
        let loading = tokio::task::spawn_blocking(move || Model::load(&path));
        let (id, model) = loading.await.map_err(|error| damaged(directory.to_owned(), error))??;
        tracing::info!(
            model = id.name,
            dimensions = id.dimensions,
            max_tokens = model.max_tokens,
            "a sentence model is loaded"
        );
        // bound: models run here
        Ok(Self { id, model: Arc::new(model), turns: Turns::new(AT_ONCE, WAITING) })
    }

    /// Does a part of a tenant's work off the async threads, when it is its turn.
    async fn work<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        part: impl FnOnce(&Model) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let internal = |error: Failure| StoreError::new(Kind::Internal, "embedder.embed").because(error);
        let turn = self.turns.take(tenant).await.ok_or_else(|| {
            StoreError::new(Kind::Unavailable, "embedder.embed")
                .because("too many of the tenant's texts wait to be embedded")
        })?;
        let model = self.model.clone();
        // The turn ends with the work, also where nobody waits for it any more.
        // bound: models run here
        let work = tokio::task::spawn_blocking(move || {
            let done = part(&model);
            drop(turn);
            done
        });
        work.await.map_err(|error| internal(error.into()))?.map_err(internal)
    }
}

#[async_trait]
impl Embedder for MiniLm {
    fn id(&self) -> &EmbedderId {
        &self.id
    }

    fn passage_bytes(&self) -> usize {
        self.model.max_tokens * BYTES_A_TOKEN
    }

    async fn embed(&self, tenant: &TenantId, texts: &[String], _: Purpose) -> Result<Vec<Vec<f32>>, StoreError> {
        let mut vectors = vec![Vec::new(); texts.len()];
        let mut waiting = Vec::new();
        for (index, some) in texts.chunks(BATCH_TEXTS).enumerate() {
            let some = some.to_vec();
            let tokens = self
                .work(tenant, move |model| some.iter().map(|text| model.tokens(text)).collect::<Result<Vec<_>, _>>())
                .await?;
            waiting.extend(tokens.into_iter().enumerate().map(|(place, tokens)| (index * BATCH_TEXTS + place, tokens)));
        }
        // Texts of one length together: there is less to pad.
        waiting.sort_by_key(|(_, tokens)| tokens.len());
        while let Some((_, longest)) = waiting.last() {
            let texts = (BATCH_TOKENS / longest.len().max(1)).clamp(1, BATCH_TEXTS);
            let batch = waiting.split_off(waiting.len().saturating_sub(texts));
            let (places, batch): (Vec<usize>, Vec<Vec<u32>>) = batch.into_iter().unzip();
            let made = self.work(tenant, move |model| model.vectors(&batch)).await?;
            for (place, vector) in places.into_iter().zip(made) {
                vectors[place] = vector;
            }
        }
        Ok(vectors)
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Model {
    bert: BertModel,
    tokenizer: Tokenizer,
    /// What shorter texts are filled up with.
    pad: u32,
    max_tokens: usize,
}

impl Model {
    fn load(directory: &Path) -> Result<(EmbedderId, Self), Error> {
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            if !directory.join(file).is_file() {
                return Err(Error::Missing { directory: directory.to_owned(), file });
            }
        }
        let config = config(directory)?;
        let max_tokens = max_tokens(directory, &config)?;
        let tokenizer = tokenizer(directory, &config, max_tokens)?;
        let path = directory.join("model.safetensors");
        let (weights, sum) = weights(&path)?;
        let bert = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)
            .and_then(|weights| BertModel::load(weights, &config))
            .map_err(|error| damaged(path.clone(), error))?;
        let model = Self { bert, tokenizer, pad: config.pad_token_id as u32, max_tokens };
        // Whatever does not fit together shows now, and not with the first question.
        let tried = model
            .tokens("one text")
            .and_then(|tokens| model.vectors(&[tokens]))
            .map_err(|error| damaged(path, error))?;
        let dimensions = tried.first().map_or(0, |vector| vector.len() as u32);
        Ok((EmbedderId { name: format!("minilm:{}", &sum[..16]), dimensions }, model))
    }

    /// A text's tokens, with those that the model wants before and behind.
    fn tokens(&self, text: &str) -> Result<Vec<u32>, Failure> {
        Ok(self.tokenizer.encode(beginning(text, MAX_TEXT), true)?.get_ids().to_vec())
    }

    /// One vector for each text: the mean of what the model makes of its tokens.
    fn vectors(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Failure> {
        let (count, long) = (texts.len(), texts.iter().map(Vec::len).max().unwrap_or(0).max(1));
        let padded = |text: &Vec<u32>| {
            let mut text = text.clone();
            text.resize(long, self.pad);
            text
        };
        let mask = |text: &Vec<u32>| (0..long).map(|at| if at < text.len() { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
        let shape = (count, long);
        let tokens = Tensor::from_vec(texts.iter().flat_map(padded).collect(), shape, &Device::Cpu)?;
        let mask = Tensor::from_vec(texts.iter().flat_map(mask).collect(), shape, &Device::Cpu)?;
        let made = self.bert.forward(&tokens, &tokens.zeros_like()?, Some(&mask))?;
        let sums = made.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?;
        let vectors = sums.broadcast_div(&mask.sum_keepdim(1)?.clamp(1.0_f32, f32::MAX)?)?.to_vec2::<f32>()?;
        let unit = |vector| unit(vector).ok_or_else(|| Failure::from("the model made numbers that are none"));
        vectors.into_iter().map(unit).collect()
    }
}

/// What the model is, if it is one that runs here.
fn config(directory: &Path) -> Result<Config, Error> {
    let path = directory.join("config.json");
    let value = json(&path)?;
    let unsupported = |what: String| Error::Unsupported { path: path.clone(), what };
    match value["model_type"].as_str() {
        Some("bert") => {}
        Some(other) => {
            return Err(unsupported(format!(
                "a model of the kind `{other}`; those of the kind `bert`, such as all-MiniLM-L6-v2, run here"
            )));
        }
        None => return Err(unsupported("no `model_type`; those of the kind `bert` run here".to_owned())),
    }
    let config: Config = serde_json::from_value(value).map_err(|error| damaged(path.clone(), error))?;
    let sizes =
        [config.hidden_size, config.num_attention_heads, config.num_hidden_layers, config.max_position_embeddings];
    let whole = sizes.iter().all(|size| (1..=1 << 16).contains(size))
        && config.hidden_size.is_multiple_of(config.num_attention_heads)
        && config.max_position_embeddings >= 8
        && config.pad_token_id < config.vocab_size
        && config.vocab_size <= 1 << 24;
    if !whole {
        return Err(damaged(path, "its sizes make no model"));
    }
    let pooling = directory.join("1_Pooling/config.json");
    if pooling.is_file() && json(&pooling)?["pooling_mode_mean_tokens"] != Value::Bool(true) {
        let what = "the model's vectors are not the mean of its tokens; only those that are run here".to_owned();
        return Err(Error::Unsupported { path: pooling, what });
    }
    Ok(config)
}

/// How many tokens the model was made for.
fn max_tokens(directory: &Path, config: &Config) -> Result<usize, Error> {
    let path = directory.join("sentence_bert_config.json");
    let said = if path.is_file() { json(&path)?["max_seq_length"].as_u64() } else { None };
    let said = said.and_then(|said| usize::try_from(said).ok()).unwrap_or(MAX_TOKENS);
    // Two are the model's own.
    Ok(said.clamp(8, MAX_TOKENS).min(config.max_position_embeddings))
}

fn tokenizer(directory: &Path, config: &Config, max_tokens: usize) -> Result<Tokenizer, Error> {
    let path = directory.join("tokenizer.json");
    let mut tokenizer = Tokenizer::from_bytes(read(&path, MAX_JSON)?).map_err(|error| damaged(path.clone(), error))?;
    if tokenizer.get_vocab_size(true) > config.vocab_size {
        return Err(damaged(path, "it has tokens that the model does not know"));
    }
    let truncation = tokenizers::TruncationParams { max_length: max_tokens, ..Default::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(|error| damaged(path, error))?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// The weights, and their SHA-256: read once.
fn weights(path: &Path) -> Result<(Vec<u8>, String), Error> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    if length > MAX_WEIGHTS {
        let what = format!("{length} bytes of weights; at most {MAX_WEIGHTS} run here");
        return Err(Error::Unsupported { path: path.to_owned(), what });
    }
    let (mut weights, mut sum, mut piece) = (Vec::with_capacity(length as usize), Sha256::new(), vec![0; 1 << 20]);
    loop {
        let read = match file.read(&mut piece) {
            Ok(0) => return Ok((weights, hex::encode(sum.finalize()))),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        sum.update(&piece[..read]);
        weights.extend_from_slice(&piece[..read]);
    }
}

fn json(path: &Path) -> Result<Value, Error> {
    serde_json::from_slice(&read(path, MAX_JSON)?).map_err(|error| damaged(path.to_owned(), error))
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(damaged(path.to_owned(), format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

fn damaged(path: PathBuf, source: impl Into<Failure>) -> Error {
    Error::Damaged { path, source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::fs;

    use ltmc_ports::testing::suite::embedder::EmbedderFixture;
    use tempfile::TempDir;
    use tokio::sync::OnceCell;

    use super::*;

    struct Real;

    #[async_trait]
    impl EmbedderFixture for Real {
        async fn embedder(&self) -> Arc<dyn Embedder> {
            real().await
        }

        fn near(&self) -> Vec<[&'static str; 3]> {
            vec![
                ["How are retries bounded?", "The number of attempts is limited.", "The cat sleeps on the warm roof."],
                ["Where is the data kept?", "All records are stored in SQLite.", "Agents send each other messages."],
                ["a puppy", "A young dog plays in the garden.", "The quarterly report is due on Friday."],
                ["How do I install it?", "Set up the software on your machine.", "The river froze in January."],
            ]
        }
    }

    ltmc_ports::embedder_contract!(Real);

    /// The real model, loaded once: a test binary has one, however many tests.
    async fn real() -> Arc<MiniLm> {
        static MODEL: OnceCell<Arc<MiniLm>> = OnceCell::const_new();
        let load = async || Arc::new(MiniLm::open(&directory().await).await.unwrap());
        MODEL.get_or_init(load).await.clone()
    }

    async fn directory() -> PathBuf {
        tokio::task::spawn_blocking(|| ltmc_test_servers::minilm::directory().unwrap()).await.unwrap()
    }

    async fn cosine(one: &str, other: &str) -> f32 {
        let texts = [one.to_owned(), other.to_owned()];
        let vectors = real().await.embed(&crate::tests::acme(), &texts, Purpose::Passage).await.unwrap();
        vectors[0].iter().zip(&vectors[1]).map(|(a, b)| a * b).sum()
    }

    /// However many of one tenant's texts wait, another's have their turn.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn texts_take_turns_tenant_by_tenant() {
        let loaded = real().await;
        let lane = MiniLm { id: loaded.id.clone(), model: loaded.model.clone(), turns: Turns::new(AT_ONCE, 1) };
        let [acme, beta] = ["acme", "beta"].map(|name| name.parse::<TenantId>().unwrap());
        let texts = ["a text".to_owned()];
        let embed = async |of: &TenantId| lane.embed(of, &texts, Purpose::Passage).await;
        // A long batch of acme's.
        let held = lane.turns.take(&acme).await.unwrap();
        let mut waits = Box::pin(embed(&acme));
        assert!(futures::poll!(waits.as_mut()).is_pending(), "a tenant has one batch at once");
        assert_eq!(embed(&beta).await.unwrap().len(), 1);
        assert!(futures::poll!(waits.as_mut()).is_pending());
        assert_eq!(embed(&acme).await.unwrap_err().kind, Kind::Unavailable, "more of its may not wait than may");
        drop(held);
        assert_eq!(waits.await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn its_name_is_the_hash_of_its_weights() {
        let id = EmbedderId { name: "minilm:53aa51172d142c89".to_owned(), dimensions: 384 };
        assert_eq!((real().await.id(), real().await.passage_bytes()), (&id, 768));
    }

    #[tokio::test]
    async fn it_knows_what_texts_mean() {
        // Computed from the same weights by another program, number by number.
        for (one, other, expected) in [
            ("How are retries bounded?", "The number of attempts is limited", 0.1679),
            ("How are retries bounded?", "The weather is lovely today.", -0.0021),
            ("How many times is a failed request tried again?", "The number of attempts is limited.", 0.6158),
            ("The weather is lovely today.", "It's so sunny outside!", 0.6660),
            ("The weather is lovely today.", "He drove to the stadium.", 0.1046),
        ] {
            let seen = cosine(one, other).await;
            assert!((seen - expected).abs() < 0.005, "`{one}`, `{other}`: {seen}, not {expected}");
        }
        let same = cosine("That is a happy person", "That is a happy person").await;
        assert!((same - 1.0).abs() < 1e-4, "{same}");
    }

    /// What stands behind the model's length does not count.
    #[tokio::test]
    async fn long_texts_count_up_to_its_length() {
        let (long, longer) = ("word ".repeat(300), "word ".repeat(300) + "entirely different ending");
        assert!(cosine(&long, &longer).await > 0.9999);
        assert!(cosine(&"word ".repeat(200), &("word ".repeat(200) + "entirely different ending")).await < 0.9999);
    }

    /// A directory with the real files, linked, but for `name`, which is `bytes`, or missing.
    async fn with(name: &str, bytes: Option<&[u8]>) -> TempDir {
        let (real, directory) = (directory().await, tempfile::tempdir().unwrap());
        for file in ["config.json", "tokenizer.json", "model.safetensors", "sentence_bert_config.json"] {
            std::os::unix::fs::symlink(real.join(file), directory.path().join(file)).unwrap();
        }
        let _ = fs::remove_file(directory.path().join(name));
        if let Some(bytes) = bytes {
            fs::create_dir_all(directory.path().join(name).parent().unwrap()).unwrap();
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        directory
    }

    async fn refusal(directory: &TempDir) -> String {
        let error = MiniLm::open(directory.path()).await.map(|model| model.id).unwrap_err();
        let source = error.source().map(ToString::to_string).unwrap_or_default();
        format!("{error}: {source}").replace(directory.path().to_str().unwrap(), "DIR")
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            let said = refusal(&with(file, None).await).await;
            assert!(said.starts_with(&format!("`DIR` has no {file}: a model's directory holds ")), "{said}");
        }
        let nowhere = MiniLm::open(Path::new("/nowhere/at/all")).await.map(|model| model.id).unwrap_err();
        assert!(nowhere.to_string().starts_with("`/nowhere/at/all` has no config.json"), "{nowhere}");
    }

    #[tokio::test]
    async fn another_architecture_is_named() {
        for (config, expected) in [
            (r#"{"model_type": "mpnet"}"#, "a model of the kind `mpnet`; those of the kind `bert`"),
            ("{}", "no `model_type`"),
        ] {
            let said = refusal(&with("config.json", Some(config.as_bytes())).await).await;
            assert!(said.starts_with(&format!("`DIR/config.json`: {expected}")), "{said}");
        }
        let pooling = with("1_Pooling/config.json", Some(br#"{"pooling_mode_cls_token": true}"#)).await;
        let said = refusal(&pooling).await;
        assert!(said.starts_with("`DIR/1_Pooling/config.json`: the model's vectors are not the mean"), "{said}");
    }

    #[tokio::test]
    async fn damaged_files_are_named() {
        let real = directory().await;
        let weights = fs::read(real.join("model.safetensors")).unwrap();
        let config: Value = serde_json::from_slice(&fs::read(real.join("config.json")).unwrap()).unwrap();
        let with_config = |key: &str, value: Value| {
            let mut config = config.clone();
            config[key] = value;
            ("config.json", serde_json::to_vec(&config).unwrap())
        };
        let mut garbled = weights[..4096].to_vec();
        garbled[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        for (file, bytes) in [
            ("model.safetensors", Vec::new()),
            ("model.safetensors", b"no weights".to_vec()),
            ("model.safetensors", weights[..weights.len() / 2].to_vec()),
            ("model.safetensors", garbled),
            ("tokenizer.json", b"{".to_vec()),
            ("tokenizer.json", br#"{"version": "1.0"}"#.to_vec()),
            ("config.json", b"not json".to_vec()),
            ("config.json", br#"{"model_type": "bert"}"#.to_vec()),
            with_config("num_attention_heads", 0.into()),
            with_config("num_attention_heads", 7.into()),
            with_config("vocab_size", 100.into()),
        ] {
            let said = refusal(&with(file, Some(&bytes)).await).await;
            let file = if said.contains("tokens that the model does not know") { "tokenizer.json" } else { file };
            assert!(said.starts_with(&format!("`DIR/{file}` is damaged, or does not belong to the model: ")), "{said}");
        }
        // Sizes that are not those of the weights.
        let (file, bytes) = with_config("hidden_size", 768.into());
        let said = refusal(&with(file, Some(&bytes)).await).await;
        assert!(said.starts_with("`DIR/model.safetensors` is damaged, or does not belong to the model: "), "{said}");
    }
}
