//! The controller's API, as its administrator on the same machine reaches it: the address and the token are in the
//! state folder.

use crate::environment::Surroundings;
use serde_json::Value;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(40);

/// The way to the controller.
pub(crate) struct Api {
    agent: ureq::Agent,
    address: String,
    token: String,
}

impl Api {
    /// Finds the controller of these surroundings.
    ///
    /// # Errors
    /// What is missing, in words.
    pub(crate) fn find(surroundings: &Surroundings) -> Result<Self, String> {
        let folder = &surroundings.state_dir;
        let file = folder.join("admin.token");
        let token = std::fs::read_to_string(&file).map_err(|error| {
            format!(
                "{}: {error}; set STATE_DIR to the controller's, and run this as its user",
                file.display()
            )
        })?;
        let address = std::fs::read_to_string(folder.join("run/controller.address"));
        let address = address.map_or_else(|_| surroundings.bind.clone(), |text| text.trim().to_owned());
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(DEADLINE))
            .build()
            .new_agent();
        Ok(Self { agent, address, token: token.trim().to_owned() })
    }

    /// Asks for something.
    ///
    /// # Errors
    /// The controller's own words, or why it was not reached.
    pub(crate) fn get(&self, path: &str) -> Result<Value, String> {
        let request = self.agent.get(self.url(path)).header("Authorization", self.bearer());
        self.answer(request.call())
    }

    /// Tells it to do something.
    ///
    /// # Errors
    /// The controller's own words, or why it was not reached.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let request = self.agent.post(self.url(path)).header("Authorization", self.bearer());
        self.answer(request.header("Content-Type", "application/json").send(body.to_string()))
    }

    /// Changes something.
    ///
    /// # Errors
    /// The controller's own words, or why it was not reached.
    pub(crate) fn patch(&self, path: &str, body: &Value) -> Result<Value, String> {
        let request = self.agent.patch(self.url(path)).header("Authorization", self.bearer());
        self.answer(request.header("Content-Type", "application/json").send(body.to_string()))
    }

    /// Removes something.
    ///
    /// # Errors
    /// The controller's own words, or why it was not reached.
    pub(crate) fn delete(&self, path: &str) -> Result<Value, String> {
        let request = self.agent.delete(self.url(path)).header("Authorization", self.bearer());
        self.answer(request.call())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn answer(&self, result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, String> {
        let address = &self.address;
        let mut response =
            result.map_err(|error| format!("the controller at {address} does not answer: {error}"))?;
        let status = response.status();
        let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(value);
        }
        Err(refusal(&value).unwrap_or_else(|| format!("{address} answered {status}")))
    }
}

/// The words of a refusal: every field that is wrong, or what there is to say.
fn refusal(problem: &Value) -> Option<String> {
    let errors = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |error: &Value| Some(format!("{} {}", error["pointer"].as_str()?, error["detail"].as_str()?));
    let fields: Vec<String> = errors.iter().filter_map(of).collect();
    if fields.len() > 1 { Some(fields.join("; ")) } else { problem["detail"].as_str().map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_names_every_field() {
        let one = json!({"detail": "/url is needed", "errors": [{"pointer": "/url", "detail": "is needed"}]});
        assert_eq!(refusal(&one).as_deref(), Some("/url is needed"));
        let two = json!({"detail": "2 fields are wrong", "errors": [
            {"pointer": "/url", "detail": "is needed"}, {"pointer": "/id", "detail": "is odd"}]});
        assert_eq!(refusal(&two).as_deref(), Some("/url is needed; /id is odd"));
        assert_eq!(refusal(&Value::Null), None);
    }
}
